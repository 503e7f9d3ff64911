// Where rollouts come from: the data inside this file, or the server that sent the page.
const PAGE = 50;

async function ask(what, values = {}) {
  const answer = await fetch(`api/${what}?${new URLSearchParams(values)}`);
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

function unpacked(one) {
  const [messages, item] = data.shared[one.shared];
  return {...one, messages, item};
}
function searchable(one) {
  if (one.text === undefined) {
    const full = unpacked(one), said = [...full.messages, ...full.turn_list.flatMap(turn => turn.messages)];
    one.text = [one.task, one.completion, ...said.map(message => typeof message.content === "string" ? message.content : JSON.stringify(message.content ?? "")),
      ...said.filter(message => message.tool_calls).map(message => JSON.stringify(message.tool_calls)), ...Object.values(one.scores).map(score => score.reason || "")].join("\n").toLowerCase();
  }
  return one.text;
}
const FAULTS = ["grader error", "timeout", "environment error"];
function fits(one, query) {
  const at = name => query[name] === "" ? null : Number(query[name]);
  return (query.phase === "" || one.phase === query.phase) && (query.task === "" || one.task === query.task)
    && (at("from_step") === null || one.step >= at("from_step")) && (at("to_step") === null || one.step <= at("to_step"))
    && (at("low") === null || (one.reward !== null && one.reward >= at("low"))) && (at("high") === null || (one.reward !== null && one.reward <= at("high")))
    && (query.state !== "no reward" || one.reward === null) && (query.state !== "cut" || one.stop === "length") && (query.state !== "episode" || one.turns > 0)
    && (query.state !== "fault" || Object.values(one.scores).some(score => FAULTS.includes(score.status)))
    && query.words.toLowerCase().split(/\s+/).every(word => searchable(one).includes(word));
}
const ORDERS = {
  oldest: () => 0, newest: () => 0, longest: (a, b) => (b.tokens ?? 0) - (a.tokens ?? 0),
  highest: (a, b) => (a.reward === null) - (b.reward === null) || b.reward - a.reward,
  lowest: (a, b) => (a.reward === null) - (b.reward === null) || a.reward - b.reward,
};

class FileSource {
  async page(run, query, place) {
    const found = runs[run].rollouts.filter(one => fits(one, query));
    if (query.order === "newest") found.reverse(); else found.sort(ORDERS[query.order]);
    const rows = found.slice(place, place + PAGE);
    return {rows, next: place + rows.length, candidates: found.length, is_complete: place + rows.length >= found.length};
  }
  async rollout(run, row) { return unpacked(runs[run].rollouts.find(one => one.row === row)); }
}

class ServedSource {
  async page(run, query, place, isCurrent = () => true, tell = () => {}) {
    // A search by words answers in parts of a second each, until the page is full.
    let rows = [], answer;
    do {
      answer = await ask("rollouts", {...query, run, place, limit: PAGE - rows.length});
      rows = rows.concat(answer.rows);
      place = answer.next;
      tell(rows.length, answer.candidates ? place / answer.candidates : 1);
    } while (isCurrent() && rows.length < PAGE && !answer.is_complete);
    return {...answer, rows};
  }
  async rollout(run, row) { return ask("rollout", {run, row}); }
}
const source = isServed ? new ServedSource() : new FileSource();
