// One completion: its grades, the conversation, and its tokens by how likely the sampler found them.
const LIKELY_RANGE = 5, DIFFERENCE_RANGE = 2;
const DIFFERENCES = {
  teacher: {title: "by difference to the teacher", name: "teacher", less: "teacher finds it less likely", of: (logprob, teacher) => teacher - logprob},
  start: {title: "by difference to the start", name: "start of the run", less: "less likely than at the start", of: (logprob, start) => logprob - start},
};
const NO_START = "difference to the start: recorded for training completions if learner.beta is above 0";
let coloring = "logprobs", shownDetail = null;
// The wish stays while completions without these log-probabilities are shown.
const coloringOf = pieces => coloring in DIFFERENCES && !pieces[coloring] ? "logprobs" : coloring;

function showDetail(run, one) {
  shownDetail = [run, one];
  const pane = $("detail"), isSame = pane.dataset.key === `${run}/${one.row}`;
  pane.dataset.key = `${run}/${one.row}`;
  const head = element("div", null, {class: "detail-head"}, rewardChip(one.reward, one.status));
  const task = element("a", one.task, {class: "inner task", title: "all completions of this task"});
  task.onclick = () => filterBy({task: one.task, from_step: "", to_step: "", phase: ""});
  head.append(task, element("span", one.phase, {class: "pill"}));
  const step = element("a", `step ${one.step}`, {class: "inner", title: "all completions of this step"});
  step.onclick = () => showStep(one.step);
  head.append(step);
  if (one.stop === "length") head.append(element("span", "cut off", {class: "pill warn"}));
  const about = [`sample ${one.sample}`, `policy ${one.policy}`, one.tokens != null && plural(one.tokens, "token"), `ended by ${one.stop}`, one.turns > 0 && plural(one.turns, "turn")];
  const group = element("div", null, {class: "group"});
  pane.replaceChildren(head, element("p", about.filter(Boolean).join(" · "), {class: "meta"}), group, grades(one), ...coloringTools(one), ...conversation(one), itemOf(one));
  if (!isSame) pane.scrollTop = 0;
  showGroup(run, one, group);
}
async function showGroup(run, one, group) {
  const query = {...NO_FILTER, task: one.task, phase: one.phase, from_step: one.step, to_step: one.step};
  const key = $("detail").dataset.key, found = await source.page(run, query, 0);
  if ($("detail").dataset.key !== key || found.rows.length < 2) return;
  group.append("group");
  for (const other of found.rows) {
    const chip = element("button", other.reward === null ? "none" : number(other.reward), {type: "button", title: `sample ${other.sample}`, class: other.row === one.row ? "chosen" : ""});
    chip.onclick = async () => showDetail(run, await source.rollout(run, other.row));
    group.append(chip);
  }
}
function grades(one) {
  const table = element("table", null, {class: "grades"}), head = element("tr");
  ["grader", "score", "status", "answer", "reason"].forEach(title => head.append(element("th", title)));
  table.append(head);
  for (const [name, score] of Object.entries(one.scores)) {
    const isFault = FAULTS.includes(score.status);
    table.append(element("tr", null, {}, element("td", name), element("td", score.value === null ? "none" : number(score.value), {class: "number"}),
      element("td", null, {}, element("span", score.status, {class: `pill ${isFault ? "bad" : score.status === "ok" ? "" : "warn"}`})), element("td", score.answer ?? "", {class: "answer"}), element("td", score.reason ?? "")));
  }
  return table;
}
function coloringTools(one) {
  const tools = element("div", null, {class: "tools"});
  if (!one.pieces) {
    tools.append(one.has_no_tokens ?? "the line of this completion has no token log-probabilities");
    return [tools];
  }
  const now = coloringOf(one.pieces);
  const ways = [["logprobs", "by log-probability"], ...Object.entries(DIFFERENCES).filter(([way]) => one.pieces[way]).map(([way, {title}]) => [way, title]), ["none", "plain"]];
  for (const [way, title] of ways) {
    const button = element("button", title, {type: "button", "aria-pressed": String(way === now)});
    button.onclick = () => { coloring = way; showDetail(...shownDetail); };
    tools.append(button);
  }
  if (now === "logprobs") tools.append(element("span", null, {class: "scale"}, "likely", element("i", "", {class: "likely"}), "unlikely"));
  if (now in DIFFERENCES) tools.append(element("span", null, {class: "scale"}, DIFFERENCES[now].less, element("i", "", {class: "differs"}), "more likely"));
  if (!one.pieces.start) tools.append(element("span", NO_START, {class: "hint"}));
  return [tools];
}
function conversation(one) {
  const said = one.messages.map(message => said_by(message, message.role, ""));
  if (!one.turn_list.length) {
    const answer = element("div", null, {class: "say policy"}, element("div", null, {}, element("b", "completion")), element("pre"));
    fillTokens(answer.lastChild, one, 0, Infinity, one.completion, true);
    return [...said, answer];
  }
  for (const turn of one.turn_list) {
    const reward = turn.reward == null ? "" : `reward ${number(turn.reward)}`, span = turn.end > turn.start ? `tokens ${turn.start} to ${turn.end}` : "";
    if (turn.author === "policy") {
      const box = element("div", null, {class: "say policy"}, element("div", null, {}, element("b", "policy"), span, reward), element("pre"));
      const text = turn.messages.map(messageText).join("\n");
      fillTokens(box.lastChild, one, turn.start, turn.end, text, true);
      said.push(box);
    } else if (turn.messages.length) for (const message of turn.messages) said.push(said_by(message, message.role, span));
  }
  return said;
}
function messageText(message) {
  const content = typeof message.content === "string" ? message.content : message.content == null ? "" : JSON.stringify(message.content, null, 1);
  const calls = (message.tool_calls ?? []).map(call => `${call.function?.name}(${typeof call.function?.arguments === "string" ? call.function.arguments : JSON.stringify(call.function?.arguments)})`);
  return [content, ...calls].filter(Boolean).join("\n");
}
function said_by(message, who, note) {
  const kind = message.role === "assistant" ? "" : message.role === "tool" ? "tool" : "";
  return element("div", null, {class: `say ${kind}`}, element("div", null, {}, element("b", who), message.name ?? "", note), element("pre", messageText(message)));
}
function fillTokens(pre, one, start, end, text) {
  const pieces = one.pieces, now = pieces && coloringOf(pieces);
  if (!pieces || now === "none") { pre.textContent = text; return; }
  const marked = new DocumentFragment(), last = Math.min(end, pieces.texts.length);
  for (let place = start; place < last; place++) {
    if (!pieces.texts[place]) continue;
    const logprob = pieces.logprobs[place], made = element("span", pieces.texts[place], {class: "token"});
    const title = [`token ${place}`, `log-probability ${number(logprob)} (${(Math.exp(logprob) * 100).toPrecision(3)}%)`];
    if (now in DIFFERENCES) {
      const {name, of} = DIFFERENCES[now], other = pieces[now][place], difference = of(logprob, other), share = Math.min(1, Math.abs(difference) / DIFFERENCE_RANGE);
      title.push(`${name} ${number(other)}, difference ${number(difference)}`);
      if (share > 0.02) made.style.background = `rgb(var(--${difference > 0 ? "more" : "less"}) / ${Math.round(share * 70)}%)`;
    } else {
      const share = Math.min(1, Math.max(0, -logprob) / LIKELY_RANGE) ** 0.6;  // small differences near 0 show, too
      if (share > 0.01) made.style.background = `rgb(var(--unlikely) / ${Math.round(share * 75)}%)`;
    }
    made.title = title.join("\n");
    marked.append(made);
  }
  pre.append(marked);
}
function itemOf(one) {
  const columns = element("details", null, {class: "item"});
  columns.append(element("summary", "columns of the task"), element("pre", JSON.stringify(one.item, null, 2)));
  return columns;
}
