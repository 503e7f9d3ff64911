// Puts the page together, and keeps it up to date while a server sends it.
const EVERY_MS = 2000;
let version = data.version;

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") searching = 0;  // a search shows what it has found
  if (["INPUT", "SELECT"].includes(document.activeElement.tagName)) { if (event.key === "Escape") document.activeElement.blur(); return; }
  if (document.activeElement === $("list") && ["ArrowDown", "ArrowUp"].includes(event.key)) { event.preventDefault(); step(event.key === "ArrowDown" ? 1 : -1); return; }
  const found = KEYS.find(([key]) => key === event.key);
  if (found) { event.preventDefault(); found[2](); }
});
let typing = 0;
for (const name of FIELDS) $(name).addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => { starts = [0]; showPage(); }, ["words", "task"].includes(name) ? 250 : 0); });
$("filters").onsubmit = event => event.preventDefault();
$("filters").addEventListener("reset", event => { event.preventDefault(); resetFilters(); });
$("run").addEventListener("input", changeRun);
$("previous").onclick = () => turnPage(-1);
$("next").onclick = () => turnPage(1);
$("help-button").onclick = () => $("help").showModal();
$("keys").append(...[...KEYS, ...MORE_KEYS].map(([key, text]) => element("tr", null, {}, element("td", null, {}, element("kbd", key)), element("td", text))));

function showAll() { showOverview(); showCharts(); showEvents(); showCounts(); }

async function update() {
  // A page that is read is not moved: the list is renewed only if its page was not full.
  try {
    const answer = await ask("overview", {version});
    $("live").className = "live";
    $("live").textContent = answer.runs?.some(one => one.status === "running") || (!answer.runs && runs.some(one => one.status === "running")) ? "live" : "up to date";
    if (answer.runs) {
      const grown = answer.runs[run].num_rollouts !== runs[run].num_rollouts;
      ({version, runs} = answer);
      showAll();
      if (grown && (shown.is_complete || query().order !== "oldest")) await showPage({choose: chosen, keep: true});
      else if (grown) showRange();
    }
  } catch {
    $("live").className = "live lost";
    $("live").textContent = "the server has ended";
  }
  setTimeout(update, EVERY_MS);
}
showAll();
showPage();
if (isServed) { $("live").hidden = false; $("live").textContent = "live"; setTimeout(update, EVERY_MS); }
