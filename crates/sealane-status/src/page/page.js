"use strict";
// Relative addresses need the slash.
if (!location.pathname.endsWith("/")) location.replace(location.pathname + "/");

const element = (id) => document.getElementById(id);
const KEPT = 120;
const curves = new Map();
let last = null;

// The servers' names and messages only ever become text here, never HTML. The fragment is HTML that
// the service has written and escaped.
function node(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// Changes `old` into `made` where they differ, so that what is selected, scrolled or read aloud stays.
function renew(old, made) {
  if (old.nodeName !== made.nodeName) { old.replaceWith(made); return; }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== made.data) old.data = made.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!made.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of made.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  renewAll(old, made);
}

function renewAll(old, made) {
  const before = [...old.childNodes], after = [...made.childNodes];
  before.slice(after.length).forEach((gone) => gone.remove());
  after.forEach((child, at) => at < before.length ? renew(before[at], child) : old.append(child));
}

function drawing(name) {
  return document.createElementNS("http" + "://www.w3.org/2000/svg", name);
}

function curve() {
  const svg = drawing("svg");
  svg.setAttribute("class", "curve");
  svg.setAttribute("viewBox", "0 0 " + KEPT + " 32");
  svg.setAttribute("preserveAspectRatio", "none");
  return svg;
}

// An unknown value is a gap.
function draw(svg, values) {
  const known = values.filter((value) => value !== null);
  const most = Math.max(1, ...known);
  const runs = [[]];
  values.forEach((value, at) => {
    if (value === null) { runs.push([]); return; }
    runs[runs.length - 1].push((KEPT - values.length + at) + "," + (30 - 28 * value / most).toFixed(1));
  });
  svg.replaceChildren(...runs.filter((run) => run.length > 1).map((run) => {
    const line = drawing("polyline");
    line.setAttribute("points", run.join(" "));
    return line;
  }));
}

function rowOf(name) {
  let row = curves.get(name);
  if (!row) {
    row = { lags: [], rates: [], lag: curve(), rate: curve(), lagText: node("td", "", "n"), rateText: node("td", "", "n") };
    const line = node("tr");
    const first = node("td"), second = node("td");
    first.append(row.lag);
    second.append(row.rate);
    line.append(node("th", name), first, row.lagText, second, row.rateText);
    row.line = line;
    document.querySelector("#curves tbody").append(line);
    curves.set(name, row);
  }
  return row;
}

function keep(values, value) {
  values.push(value);
  if (values.length > KEPT) values.shift();
}

function take(status, now) {
  const names = new Set(status.endpoints.map((endpoint) => endpoint.name));
  for (const [name, row] of curves) if (!names.has(name)) { row.line.remove(); curves.delete(name); }
  for (const endpoint of status.endpoints) {
    const row = rowOf(endpoint.name);
    const before = last && last.status.endpoints.find((it) => it.name === endpoint.name);
    const seconds = last ? (now - last.now) / 1000 : 0;
    // The counter begins anew when the service was restarted.
    const rate = before && seconds > 0 ? Math.max(0, endpoint.reads - before.reads) / seconds : null;
    const lag = endpoint.name === status.primary ? null : endpoint.lag_ms;
    keep(row.lags, lag);
    keep(row.rates, rate);
    draw(row.lag, row.lags);
    draw(row.rate, row.rates);
    row.lagText.textContent = lag === null ? "" : lag + " ms";
    row.rateText.textContent = rate === null ? "" : rate.toFixed(rate < 10 ? 1 : 0) + " /s";
  }
  last = { status, now };
  element("curves").hidden = false;
}

async function get(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(path + ": " + answer.status);
  return answer;
}

let asking = false, again = false;
async function refresh() {
  if (document.hidden) return;
  // What is on its way may be from before the event.
  if (asking) { again = true; return; }
  asking = true;
  try {
    const [status, fragment] = await Promise.all([
      get("status.json").then((answer) => answer.json()),
      get("fragment").then((answer) => answer.text()),
    ]);
    take(status, performance.now());
    const made = document.createElement("template");
    made.innerHTML = fragment;
    renewAll(element("live"), made.content);
    element("state").textContent = "live";
    element("state").className = "good";
  } catch (error) {
    element("state").textContent = "the service does not answer; this is the state before";
    element("state").className = "bad";
  } finally {
    asking = false;
  }
  if (again) { again = false; refresh(); }
}

async function explain(event) {
  event.preventDefault();
  const place = element("explained");
  try {
    const answer = await fetch("explain", { method: "POST", body: element("sql").value });
    if (!answer.ok) { place.replaceChildren(node("p", await answer.text())); return; }
    const told = await answer.json();
    const head = node("p");
    head.append(node("strong", told.first_choice ? "It would run on " + told.first_choice + "." : "It would run nowhere now."),
      " It is judged as: " + told.intent + " (" + told.reason + "). Consistency: " + (typeof told.consistency === "string" ? told.consistency : JSON.stringify(told.consistency)) +
      ", routing: " + told.routing + ", balancer: " + told.balancer + "." + (told.cost_text ? " Cost: " + told.cost_text + "." : ""));
    const table = node("table"), body = node("tbody");
    for (const choice of told.choices) {
      const line = node("tr");
      line.append(node("th", choice.endpoint), node("td", String(choice.role).toLowerCase()), node("td", choice.why ? "no, " + choice.why : "may serve it"));
      body.append(line);
    }
    table.append(body);
    place.replaceChildren(head, table);
  } catch (error) {
    place.replaceChildren(node("p", "the service does not answer"));
  }
}

element("explain").addEventListener("submit", explain);
document.addEventListener("visibilitychange", refresh);
const events = new EventSource("events");
events.addEventListener("change", refresh);
events.addEventListener("missed", refresh);
setInterval(() => { if (!asking) refresh(); }, 1000);
refresh();
