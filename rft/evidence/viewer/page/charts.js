// Small curves, one per metric, of all runs over each other; the steps under the pointer are read in every curve.
const WIDTH = 340, HEIGHT = 160, LEFT = 46, RIGHT = 10, TOP = 10, BOTTOM = 22;
const QUIET = ["dropped completions", "duplicate completions", "cut-off completions"];  // shown if there is one
let charts = [];

function showCharts() {
  const titles = [...new Set(runs.flatMap(run => Object.keys(run.curves)))];
  charts = titles.map(title => [title, runs.map(run => run.curves[title] ?? [])]).filter(([title, curves]) => curves.some(curve => curve.some(([, value]) => QUIET.includes(title) ? value : true)))
    .map(([title, curves]) => chart(title, curves));
  charts.push(...runs.flatMap((run, index) => [
    parts(run.seconds, `seconds of a step${runs.length > 1 ? ` · ${run.name}` : ""}`),
    parts(run.dropped, `dropped completions by cause${runs.length > 1 ? ` · ${run.name}` : ""}`),
  ]).filter(Boolean));
  $("charts").replaceChildren(...charts.map(one => one.figure));
  $("curves").hidden = !charts.length;
  $("curves-note").textContent = charts.length ? "bands and whiskers are 95% intervals; click a step to see its completions" : "";
}
function ticks(low, high, most) {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map(factor => factor * power).find(one => one >= rough);
  const found = [];
  for (let at = Math.ceil(low / size) * size; at <= high + size * 1e-9; at += size) found.push(Number(at.toPrecision(12)));
  return found;
}
function axes(steps, values) {
  const range = (list, share) => { const low = Math.min(...list), high = Math.max(...list), room = low === high ? Math.abs(low) * 0.1 || 0.5 : (high - low) * share; return [low - room, high + room]; };
  let [low, high] = range(values, 0.06);
  if (Math.min(...values) >= 0 && low < 0) low = 0;
  const [first, last] = Math.min(...steps) === Math.max(...steps) ? range(steps, 0) : [Math.min(...steps), Math.max(...steps)];
  const x = step => LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT), y = value => HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP);
  const svg = drawn("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img"});
  for (const value of ticks(low, high, 4)) svg.append(drawn("line", {x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value), class: "grid"}), drawn("text", {x: LEFT - 6, y: y(value) + 3.5, "text-anchor": "end"}, number(value)));
  for (const step of ticks(first, last, 5).filter(Number.isInteger)) svg.append(drawn("text", {x: x(step), y: HEIGHT - 6, "text-anchor": "middle"}, whole(step)));
  const stepAt = place => first + (place - LEFT) / (WIDTH - LEFT - RIGHT) * (last - first);
  return {svg, x, y, stepAt};
}
function chart(title, curves) {
  curves = curves.map(curve => curve.filter(([, value]) => value !== null));
  const points = curves.flat();
  const figure = element("figure"), readout = element("span", "", {class: "readout"});
  figure.append(element("figcaption", null, {}, element("span", title), readout));
  if (!points.length) return {figure, read() {}};
  const {svg, x, y, stepAt} = axes(points.map(([step]) => step), points.flatMap(([, value, low, high]) => [value, low ?? value, high ?? value]));
  curves.forEach((curve, index) => draw(svg, curve, index, x, y));
  const cross = drawn("line", {y1: TOP, y2: HEIGHT - BOTTOM, class: "cross", visibility: "hidden"});
  svg.append(cross);
  const nearest = (curve, step) => curve.reduce((best, point) => !best || Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best, null);
  const last = () => { readout.textContent = curves.map(curve => curve.length ? number(curve.at(-1)[1]) : "–").join(" · "); };
  const read = step => {
    if (step === null) { cross.setAttribute("visibility", "hidden"); last(); return; }
    const found = curves.map(curve => nearest(curve, step));
    const at = found.find(Boolean)[0];
    for (const [name, value] of [["x1", x(at)], ["x2", x(at)], ["visibility", "visible"]]) cross.setAttribute(name, value);
    readout.textContent = `step ${number(at)}: ${found.map(point => point ? number(point[1]) + (point[2] == null ? "" : ` [${number(point[2])}, ${number(point[3])}]`) : "–").join(" · ")}`;
  };
  follow(svg, stepAt);
  figure.append(svg);
  last();
  return {figure, read};
}
function draw(svg, curve, index, x, y) {
  const color = index % NUM_COLORS, line = points => points.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  const isDense = curve.length > 30, intervals = curve.filter(([, , low]) => low != null);
  if (intervals.length > 12) svg.append(drawn("polygon", {points: `${line(intervals.map(([step, , , high]) => [step, high]))} ${line(intervals.map(([step, , low]) => [step, low]).reverse())}`, class: `band f${color}`}));
  else for (const [step, , low, high] of intervals) svg.append(drawn("line", {x1: x(step), x2: x(step), y1: y(low), y2: y(high), class: `whisker s${color}`}));
  if (isDense) svg.append(drawn("polyline", {points: line(curve), class: `raw s${color}`}));
  svg.append(drawn("polyline", {points: line(isDense ? smooth(curve) : curve), class: `line s${color}`}));
  if (curve.length <= 30) for (const [step, value] of curve) svg.append(drawn("circle", {cx: x(step), cy: y(value), r: 2.4, class: `f${color}`}));
}
function smooth(curve) {
  // A mean over a twelfth of the curve, drawn over the curve itself.
  const half = Math.max(1, Math.round(curve.length / 24));
  return curve.map(([step], place) => {
    const near = curve.slice(Math.max(0, place - half), place + half + 1);
    return [step, near.reduce((sum, [, value]) => sum + value, 0) / near.length];
  });
}
function parts(steps, title) {
  // Bars of what a step's time or drops consist of.
  const names = [...new Set(steps.flatMap(([, values]) => Object.keys(values)))];
  if (!names.length || !steps.some(([, values]) => Object.values(values).some(value => value > 0))) return null;
  const figure = element("figure"), readout = element("span", "", {class: "readout"}), legend = element("div", null, {class: "legend"});
  figure.append(element("figcaption", null, {}, element("span", title), readout));
  const totals = steps.map(([, values]) => Object.values(values).reduce((sum, value) => sum + value, 0));
  const gap = steps.length > 1 ? (steps.at(-1)[0] - steps[0][0]) / (steps.length - 1) : 1;
  const {svg, x, y, stepAt} = axes([steps[0][0] - gap / 2, steps.at(-1)[0] + gap / 2], [0, ...totals]);
  const width = Math.max(0.8, Math.min(14, (WIDTH - LEFT - RIGHT) / steps.length * 0.75));
  for (const [step, values] of steps) {
    let base = 0;
    names.forEach((name, place) => {
      const value = values[name] ?? 0;
      if (value > 0) svg.append(drawn("rect", {x: x(step) - width / 2, y: y(base + value), width, height: Math.max(0, y(base) - y(base + value)), class: `f${phaseColor(name, place)}`}));
      base += value;
    });
  }
  names.forEach((name, place) => legend.append(element("span", null, {}, dot(phaseColor(name, place)), words(name))));
  follow(svg, stepAt);
  figure.append(svg, legend);
  const read = step => {
    if (step === null) { readout.textContent = ""; return; }
    const found = steps.reduce((best, one) => Math.abs(one[0] - step) < Math.abs(best[0] - step) ? one : best);
    readout.textContent = `step ${number(found[0])}: ${names.map(name => number(found[1][name] ?? 0)).join(" · ")}`;
  };
  return {figure, read};
}
function follow(svg, stepAt) {
  const step = event => { const box = svg.getBoundingClientRect(), scale = Math.min(box.width / WIDTH, box.height / HEIGHT); return stepAt((event.clientX - box.left - (box.width - WIDTH * scale) / 2) / scale); };
  svg.addEventListener("pointermove", event => charts.forEach(one => one.read(step(event))));
  svg.addEventListener("pointerleave", () => charts.forEach(one => one.read(null)));
  svg.addEventListener("click", event => showStep(Math.max(0, Math.round(step(event)))));
}
