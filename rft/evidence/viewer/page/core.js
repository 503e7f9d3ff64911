"use strict";
// Everything from a run is untrusted: it only ever becomes text (textContent) or an attribute that nothing loads.
const data = JSON.parse(document.getElementById("data").textContent);
const isServed = data.mode === "serve";
let runs = data.runs;
const $ = id => document.getElementById(id);
const NUM_COLORS = 6;

function element(tag, text, attributes = {}, ...inner) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...inner);
  return made;
}
function drawn(tag, attributes = {}, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
const PHASE_COLORS = {sample_and_grade: 0, learn: 1, sync: 2, evaluate: 3, start: 4, checkpoint: 5, render: 0, validate: 3};  // the same in every picture
const phaseColor = (name, place) => PHASE_COLORS[name] ?? place % NUM_COLORS;
const dot = index => element("span", "", {class: `dot f${index % NUM_COLORS}`});
function number(value) {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  if (size !== 0 && size < 0.001) return value.toExponential(1);
  return size >= 10000 ? Math.round(value).toLocaleString("en") : String(Number(value.toFixed(3)));
}
const whole = value => Number(value).toLocaleString("en");
const plural = (count, one) => `${whole(count)} ${one}${count === 1 ? "" : "s"}`;
const words = name => name.replaceAll("_", " ");
function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round(seconds % 3600 / 60)} min`;
}
let rewardRange = [0, 1];
function setRewardRange(rewards) {
  // From 0 to 1 if all are; else as far as they reach.
  const known = rewards.filter(value => value !== null && value !== undefined), low = Math.min(...known), high = Math.max(...known);
  rewardRange = !known.length || (low >= 0 && high <= 1) || low === high ? [0, 1] : [low, high];
}
function rewardChip(value, status) {
  if (value === null || value === undefined) return element("span", "none", {class: "reward none", title: status || "no reward"});
  const chip = element("span", number(value), {class: "reward"});
  chip.style.setProperty("--share", Math.max(0, Math.min(1, (value - rewardRange[0]) / (rewardRange[1] - rewardRange[0]))));
  return chip;
}

const THEMES = {"": "auto", light: "light", dark: "dark"};
let theme = "";
function showTheme() {
  const isDark = theme === "dark" || (theme === "" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  $("theme").textContent = {"": "◐ auto", light: "○ light", dark: "● dark"}[theme];
}
function nextTheme() {
  const names = Object.keys(THEMES);
  theme = names[(names.indexOf(theme) + 1) % names.length];
  try { localStorage.setItem("rft theme", theme); } catch { /* a file may have no storage */ }
  showTheme();
}
try { theme = localStorage.getItem("rft theme") in THEMES ? localStorage.getItem("rft theme") : ""; } catch { /* the same */ }
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
$("theme").onclick = nextTheme;
showTheme();
