// One card per run: state, before and after, verdicts, time by phase, proofs and drops.
const TONES = {finished: "good", running: "good", silent: "warn", interrupted: "warn", unfinished: "warn", pruned: "warn", dead: "bad", failed: "bad"};

function showOverview() {
  $("overview").replaceChildren(...runs.map(card));
  document.title = `${runs.map(run => run.name).join(", ")} · rft view`;
}
function card(run, index) {
  const made = element("div", null, {class: "card"});
  const head = element("div", null, {class: "card-head"}, dot(index), element("h1", run.name), element("span", run.status, {class: `pill ${TONES[run.status] ?? ""}`}));
  const steps = run.steps ? `step ${whole(run.step)} of ${whole(run.steps)}` : run.step ? `step ${whole(run.step)}` : "";
  if (steps) head.append(element("span", steps, {class: "pill"}));
  if (run.now) head.append(element("span", run.now, {class: "pill"}));
  made.append(head);
  if (run.steps && run.status === "running") {
    const bar = element("div");
    bar.style.width = `${Math.min(100, run.step / run.steps * 100)}%`;
    made.append(element("div", null, {class: "progress"}, bar));
  }
  const reached = element("div", null, {}, ...results(run, index), ...verdictList(run)), how = element("div", null, {}, ...timeBar(run), factList(run));
  made.append(element("div", null, {class: "card-body"}, reached, how));
  return made;
}
function results(run, index) {
  const measured = run.eval ?? {};
  const shown = [["before", measured.before], ["latest validation", measured.latest], ["after", measured.after], ["after − before", measured.difference]].filter(([, one]) => one);
  if (!shown.length) return [];
  const scores = element("div", null, {class: "scores"});
  for (const [title, one] of shown) {
    const isDifference = title.startsWith("after −"), ends = one.ci95;
    const tone = isDifference && ends ? (ends[0] > 0 ? "good" : ends[1] < 0 ? "bad" : "") : "";
    const sign = isDifference && one.mean > 0 ? "+" : "";
    const interval = ends ? `95% interval ${ends.map(number).join(" to ")}` : one.caveat ?? "no interval";
    scores.append(element("div", null, {class: `score ${tone}`}, element("span", title), element("b", sign + one.mean.toFixed(3)), element("i", interval)));
  }
  const about = [measured.metric, measured.split && `${measured.split} tasks`, shown[0][1].n && `n = ${whole(shown[0][1].n)}`].filter(Boolean).join(" · ");
  return [scores, intervals(shown.filter(([title]) => !title.startsWith("after −")), index), ...(about ? [element("div", about, {class: "legend"})] : []), ...arms(run)];
}
function intervals(shown, index) {
  // Dots with 95% whiskers over one axis.
  const ends = shown.flatMap(([, one]) => one.ci95 ?? [one.mean]);
  const low = Math.min(0, ...ends), high = Math.max(1, ...ends), x = value => 52 + (value - low) / (high - low) * 378;
  const svg = drawn("svg", {viewBox: "0 0 440 58", class: "intervals", role: "img", "aria-label": "held-out scores with 95% intervals", preserveAspectRatio: "xMinYMid meet"});
  for (const end of [low, (low + high) / 2, high]) svg.append(drawn("line", {x1: x(end), x2: x(end), y1: 4, y2: 42, class: "grid"}), axisText(x(end), 55, number(end), "middle"));
  shown.forEach(([title, one], place) => {
    const y = 14 + place * 18;
    svg.append(axisText(44, y + 4, title.split(" ")[0], "end"));
    if (one.ci95) svg.append(drawn("line", {x1: x(one.ci95[0]), x2: x(one.ci95[1]), y1: y, y2: y, class: `whisker s${index % NUM_COLORS}`, "stroke-width": 3, "stroke-linecap": "round"}));
    svg.append(drawn("circle", {cx: x(one.mean), cy: y, r: 4.5, class: `f${index % NUM_COLORS}`}));
  });
  return svg;
}
function axisText(x, y, text, anchor) {
  const made = drawn("text", {x, y, "text-anchor": anchor, fill: "currentColor", "font-size": 10.5, opacity: 0.65}, text);
  return made;
}
function arms(run) {
  if (!run.arms?.means) return [];
  const list = element("dl", null, {class: "facts"});
  for (const [name, one] of Object.entries(run.arms.means)) list.append(element("dt", name), element("dd", one.mean.toFixed(3) + (one.ci95 ? `  [${one.ci95.map(number).join(", ")}]` : "")));
  return [list];
}
function verdictList(run) {
  if (!run.verdicts.length) return [];
  const list = element("ul", null, {class: "verdicts"});
  for (const one of run.verdicts) list.append(element("li", null, {}, element("span", one.about), element("span", one.text, {class: one.tone})));
  return [list];
}
function timeBar(run) {
  const parts = Object.entries(run.facts.time_s ?? {}).filter(([, seconds]) => seconds > 0).sort((a, b) => b[1] - a[1]);
  const total = parts.reduce((sum, [, seconds]) => sum + seconds, 0);
  if (!total) return [];
  const bar = element("div", null, {class: "stack", role: "img", "aria-label": "time by phase"}), legend = element("div", null, {class: "legend"});
  parts.forEach(([name, seconds], place) => {
    const share = element("div", "", {class: `f${phaseColor(name, place)}`, title: `${words(name)}: ${duration(seconds)}`});
    share.style.flexGrow = seconds / total;
    share.style.flexBasis = "0";
    bar.append(share);
    legend.append(element("span", null, {}, dot(phaseColor(name, place)), `${words(name)} ${duration(seconds)} (${Math.round(seconds / total * 100)}%)`));
  });
  return [bar, legend];
}
function factList(run) {
  const facts = run.facts, list = element("dl", null, {class: "facts"});
  const add = (title, text) => { if (text) list.append(element("dt", title), element("dd", text)); };
  add("wall time", facts.wall_s && duration(facts.wall_s));
  const drops = Object.entries(facts.drops ?? {});
  add("dropped", drops.length ? drops.map(([why, count]) => `${whole(count)} ${why}`).join(", ") : run.step ? "no completion" : "");
  add("recovery", facts.recovery && Object.entries(facts.recovery).map(([what, count]) => `${words(what)} ${count}`).join(", "));
  add("engines busy", facts.engine_busy_share != null && `${Math.round(facts.engine_busy_share * 100)}% of the episodes' time`);
  for (const [title, text] of Object.entries(run.about)) add(title, title === "started" ? text.replace("T", " ").slice(0, 19) : text);
  add("folder", run.folder);
  return list;
}

function showEvents() {
  const all = runs.flatMap(run => run.events.map(event => ({...event, run: run.name}))).sort((a, b) => a.time < b.time ? -1 : a.time > b.time ? 1 : 0);
  $("events").hidden = !all.length;
  $("events-count").textContent = plural(all.length, "entry").replace("entrys", "entries");
  $("event-list").replaceChildren(...all.map(event => element("li", null, {}, element("time", event.time.replace("T", " ").slice(0, 19)), element("span", runs.length > 1 ? `${event.run}: ${event.text}` : event.text))));
}
