// The list of completions with its filters, pages and keys.
const FIELDS = ["words", "phase", "from_step", "to_step", "low", "high", "task", "state", "order"];
const NO_FILTER = Object.fromEntries(FIELDS.map(name => [name, name === "order" ? "oldest" : ""]));
let run = 0, starts = [0], shown = {rows: [], candidates: 0, next: 0, is_complete: true}, chosen = 0, asking = 0, searching = 0;

const query = () => Object.fromEntries(FIELDS.map(name => [name, $(name).value.trim()]));

async function showPage({choose: place = 0, keep = false} = {}) {
  const turn = ++asking, wanted = query(), start = starts.at(-1);
  $("page-text").textContent = "…";
  try {
    searching = turn;
    const found = await source.page(run, wanted, start, () => turn === asking && turn === searching, (count, share) => {
      if (wanted.words && turn === asking) $("page-text").textContent = `searched ${Math.round(share * 100)}%, found ${count} (Esc stops)`;
    });
    if (turn !== asking) return;
    searching = 0;
    shown = found;
  } catch (error) {
    if (turn === asking) $("page-text").textContent = `no answer: ${error.message}`;
    return;
  }
  chosen = Math.min(place < 0 ? shown.rows.length - 1 : place, Math.max(0, shown.rows.length - 1));
  await showList(keep);
}
async function showList(keep) {
  setRewardRange(shown.rows.map(one => one.reward));
  $("list").replaceChildren(...shown.rows.map(listRow));
  if (!shown.rows.length) $("list").append(element("div", "No completion fits. Press x to show all.", {class: "nothing"}));
  showRange();
  $("previous").disabled = starts.length < 2;
  $("next").disabled = shown.is_complete;
  if (shown.rows.length) await choose(chosen, keep); else { $("detail").replaceChildren(element("div", "Nothing to show.", {class: "nothing"})); delete $("detail").dataset.key; }
}
function showRange() {
  // The number of all is known to grow only if nothing is filtered.
  const start = starts.at(-1), wanted = query(), isSearch = wanted.words !== "";
  if (isServed && FIELDS.every(name => wanted[name] === NO_FILTER[name])) shown.candidates = runs[run].num_rollouts;
  const range = shown.rows.length ? isSearch ? `${plural(shown.rows.length, "match")}`.replace("matchs", "matches") + (shown.is_complete ? "" : " on this page") : `${whole(start + 1)} to ${whole(start + shown.rows.length)} of ${whole(shown.candidates)}` : "none";
  $("page-text").textContent = range;
}
function listRow(one, place) {
  const made = element("div", null, {class: "row", role: "option", id: `row-${place}`});
  const head = element("div", null, {class: "row-head"});
  if (runs.length > 1) head.append(dot(run));
  head.append(element("span", `step ${one.step} · ${one.phase} · ${one.task}`, {class: "where"}), element("span", "", {class: "space"}));
  if (one.turns) head.append(element("span", plural(one.turns, "turn")));
  if (one.stop === "length") head.append(element("span", "cut off"));
  head.append(element("span", one.tokens == null ? "" : `${whole(one.tokens)} tok`), rewardChip(one.reward, one.status));
  const preview = (one.preview ?? one.completion).replace(/\s+/g, " ").slice(0, 200);
  made.append(head, element("div", preview || "empty", {class: preview ? "preview" : "preview empty"}));
  made.onclick = () => { choose(place); $("list").focus({preventScroll: true}); };
  return made;
}
async function choose(place, keep = false) {
  chosen = Math.max(0, Math.min(place, shown.rows.length - 1));
  const rows = [...document.querySelectorAll(".row")];
  rows.forEach((row, index) => { row.classList.toggle("chosen", index === chosen); row.setAttribute("aria-selected", String(index === chosen)); });
  $("list").setAttribute("aria-activedescendant", `row-${chosen}`);
  const row = rows[chosen], list = $("list");
  if (row && !keep) { const top = row.offsetTop - list.offsetTop; if (top < list.scrollTop) list.scrollTop = top; else if (top + row.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top + row.offsetHeight - list.clientHeight; }
  if (!shown.rows.length || (keep && $("detail").dataset.key)) return;
  const wanted = shown.rows[chosen], ofRun = run, turn = asking;
  try {
    const one = await source.rollout(ofRun, wanted.row);
    if (turn === asking && shown.rows[chosen] === wanted) showDetail(ofRun, one);
  } catch (error) { $("detail").replaceChildren(element("div", `no answer: ${error.message}`, {class: "nothing"})); }
}
function filterBy(values) {
  for (const [name, value] of Object.entries(values)) $(name).value = value;
  starts = [0];
  return showPage();
}
function showStep(step) {
  filterBy({from_step: step, to_step: step, task: ""});
  $("completions").scrollIntoView({behavior: "smooth"});
}
function turnPage(by) {
  if (by > 0 && !shown.is_complete) { starts.push(shown.next); showPage(); }
  if (by < 0 && starts.length > 1) { starts.pop(); showPage(); }
}
function step(by) {
  const place = chosen + by;
  if (place >= shown.rows.length && !shown.is_complete) { starts.push(shown.next); showPage(); }
  else if (place < 0 && starts.length > 1) { starts.pop(); showPage({choose: -1}); }
  else choose(place);
}
const resetFilters = () => filterBy(NO_FILTER);
function fill(select, values) {
  const before = select.value;
  select.replaceChildren(...values.map(([value, text]) => element("option", text, {value})));
  if (values.some(([value]) => value === before)) select.value = before;
}
function showCounts() {
  fill($("run"), runs.map((one, index) => [String(index), one.name]));
  $("run-label").hidden = runs.length < 2;
  fill($("phase"), [["", "all"], ...Object.entries(runs[run].phases).map(([name, count]) => [name, `${name} (${whole(count)})`])]);
  $("count").textContent = runs.map(one => {
    const name = runs.length > 1 ? `${one.name}: ` : "";
    return one.num_shown !== undefined && one.num_shown < one.num_rollouts ? `${name}${whole(one.num_shown)} of ${whole(one.num_rollouts)}, chosen evenly` : `${name}all ${whole(one.num_rollouts)}`;
  }).join("; ") + (data.note ? ` — ${data.note}` : "");
}
const KEYS = [
  ["j", "next completion", () => step(1)], ["k", "previous completion", () => step(-1)], ["n", "next page", () => turnPage(1)], ["p", "previous page", () => turnPage(-1)],
  ["/", "search", () => { $("completions").scrollIntoView(); $("words").focus({preventScroll: true}); $("words").select(); }], ["x", "reset the filters", resetFilters],
  ["r", "next run", () => { if (runs.length > 1) { $("run").value = String((run + 1) % runs.length); changeRun(); } }],
  ["g", "completions of the same task", () => { if (shown.rows.length) filterBy({task: shown.rows[chosen].task, from_step: "", to_step: "", phase: ""}); }],
  ["c", "next colouring of the tokens", () => (document.querySelector(".tools button[aria-pressed=true] + button") ?? document.querySelector(".tools button"))?.click()],
  ["o", "to the overview", () => scrollTo({top: 0})], ["l", "to the list", () => $("completions").scrollIntoView()], ["t", "light, dark, or as the system", nextTheme],
  ["?", "these keys", () => $("help").open ? $("help").close() : $("help").showModal()],
];
const MORE_KEYS = [["↓ ↑", "the same as j and k, in the list"], ["Esc", "leave a field; stop a search, which n continues"]];
function changeRun() { run = Number($("run").value); starts = [0]; showCounts(); showPage(); }
