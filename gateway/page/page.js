// Shows what /events tells. Every text goes in as text: nothing that a server or a stranger wrote becomes markup.
"use strict";
const SILENT_MS = 8000; // after this without a word what is shown may be over
const $ = (id) => document.getElementById(id);
let heard = 0, last = "", locked = false;

function make(tag, text, name) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
}
const fill = (parent, children) => parent.replaceChildren(...children);
const say = (element, text) => { if (element.textContent !== text) element.textContent = text; };

function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  return s < 172800 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} days`;
}

// A number that goes on counting between two messages: data-from is its value when `heard` was noted.
function counting(seconds, way, shape) {
  const element = make("span");
  Object.assign(element.dataset, { from: seconds, way, shape });
  tick(element);
  return element;
}
function tick(element) {
  const { from, way, shape } = element.dataset;
  const passed = (performance.now() - heard) / 1000;
  say(element, shape.replace("@", span(way === "up" ? +from + passed : +from - passed)));
}

function fact(name, value) {
  const row = make("div"), dd = make("dd");
  dd.append(value instanceof Node ? value : String(value));
  row.append(make("dt", name), dd);
  return row;
}
const known = (value) => (value === null || value === undefined || value === "" ? "unknown" : value);

function show(told) {
  const { headline: h, status: s } = told;
  document.body.dataset.standing = h.standing;
  document.title = `${h.standing}: ${s.pod}`;
  say($("pod"), [s.pod, s.namespace, s.network, s.pool.ticker || s.pool.id].filter(Boolean).join(" · "));
  say($("standing"), h.standing);
  say($("title"), h.title);
  say($("version"), `version ${s.version}`);
  const leader = s.leader;
  fill($("facts"), [
    fact("Forger", h.forger || "nobody known"),
    fact("Cluster", known(h.cluster)),
    fact("Since", h.since_seconds === null ? "unknown" : counting(h.since_seconds, "up", "@")),
    fact("Right lasts", h.until_seconds === null ? "unknown" : counting(h.until_seconds, "down", "@, unless renewed")),
    fact("Next", known(h.next)),
    fact("Lease", leader ? `${leader.holder || "nobody"} (token ${leader.token})` : "unknown"),
  ]);
  fill($("why"), h.why.map((text) => make("li", text)));
  fill($("warnings"), s.warnings.map((text) => make("p", text)));
  clusters(s.pool);
  line(told.timeline);
  keys(told.kes, s.credentials);
  node(s.node, s.leadership);
  workers(s);
}

function clusters(pool) {
  $("clusters").hidden = !pool.clusters;
  if (!pool.clusters) return;
  fill($("clusters").querySelector("tbody"), pool.clusters.map((each) => {
    const row = make("tr"), name = make("th", each.name);
    name.scope = "row";
    row.append(name, make("td", each.state || "?"), make("td", each.priority), make("td", each.leader || "nobody"),
      make("td", each.name === pool.holder ? "holds it" : ""), make("td", each.why_not));
    return row;
  }));
}

function line(entries) {
  const shown = JSON.stringify(entries.map((each) => [each.about, each.new, each.token, Math.round(each.time)]));
  if (shown === last) return; // keep what a reader scrolled to or selected
  last = shown;
  fill($("line"), entries.map((each) => {
    const item = make("li"), time = make("time"), text = make("div");
    const when = new Date(each.time * 1000);
    time.dateTime = when.toISOString();
    time.title = when.toLocaleString();
    time.textContent = when.toLocaleTimeString();
    text.append(make("span", `${each.about}: ${each.old ? each.old + " → " : ""}${each.new}`, "what"));
    if (each.token) text.append(` token ${each.token}`);
    if (each.why) text.append(make("span", each.why, "reason"));
    item.append(time, text);
    return item;
  }));
}

function keys(kes, credentials) {
  const parts = [];
  if (kes) {
    const days = kes.days_left, meter = make("meter");
    Object.assign(meter, { min: 0, max: 90, low: 7, high: 14, optimum: 90, value: Math.max(0, Math.min(90, days)) });
    meter.setAttribute("aria-label", "KES days left");
    const until = new Date(kes.expires_at * 1000).toISOString().slice(0, 10);
    parts.push(make("p", days <= 0 ? `The certificate expired on ${until}.` : `${days} days left, until ${until} (${kes.periods_left} KES periods).`), meter);
  }
  const certificate = credentials && credentials.certificate;
  parts.push(make("p", certificate ? `Certificate counter ${certificate.counter}, ${certificate.pool_id}` : "No certificate is known."));
  fill($("kes"), parts);
  fill($("findings"), (credentials ? credentials.findings : []).map((each) => {
    const item = make("li", `${each.severity}: ${each.reason}`, each.severity);
    if (each.remedy) item.append(make("code", each.remedy));
    return item;
  }));
}

function node(shown, leadership) {
  const rows = [
    fact("Fit", shown.fit ? "yes" : `no: ${shown.reasons.join("; ")}`),
    fact("Process", shown.pid ? `pid ${shown.pid}` : "none"),
    fact("Slot", known(shown.slot)),
    fact("Tip behind", typeof shown.tip_lag_seconds === "number" ? `${shown.tip_lag_seconds} s` : "unknown"),
    fact("It says it forges", shown.forging_enabled === 1 ? "yes" : shown.forging_enabled === 0 ? "no" : "unknown"),
  ];
  if (leadership && leadership.next_slot_seconds !== null) rows.push(fact("Next slot", counting(leadership.next_slot_seconds, "down", "in @")));
  fill($("node"), rows);
}

function workers(status) {
  fill($("workers").querySelector("tbody"), Object.entries(status.workers).map(([name, each]) => {
    const row = make("tr"), head = make("th", name), box = status.sandbox[name], cost = each.cost;
    head.scope = "row";
    const up = make("td");
    if (each.alive) up.append(counting(each.up_seconds, "up", "@"));
    const closed = !box ? "unknown" : box.closed ? (box.violations.length ? `${box.violations.length} violations` : "closed") : "open";
    row.append(head, make("td", each.alive ? "alive" : "silent", each.alive ? "ok" : "off"), up,
      make("td", cost && cost.memory_bytes ? `${(cost.memory_bytes / 1048576).toFixed(1)} MiB` : ""),
      make("td", closed, closed === "closed" ? "" : "off"));
    return row;
  }));
}

function link(name, text) {
  const element = $("link");
  element.className = `link ${name}`;
  say(element, text);
}

function connect() {
  const source = new EventSource("events");
  source.onmessage = (message) => {
    heard = performance.now();
    show(JSON.parse(message.data));
    link("live", "live");
  };
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) refused();
  };
}

// An EventSource does not tell why it was refused: because too many look already, or the token is another one by now.
async function refused() {
  try {
    const answer = await fetch("events", { method: "HEAD" });
    locked = answer.status === 401;
  } catch {
    locked = false; // it cannot be asked
  }
  if (locked) lose("its token has changed: reload this page, which asks for the new one");
  else setTimeout(connect, 2000);
}

function lose(why) {
  link("lost", why);
  document.body.dataset.standing = "unknown";
  say($("standing"), "unknown");
  say($("title"), `It is not known who forges: ${locked ? "this pod asks for its token" : "this pod does not answer"}`);
}

setInterval(() => {
  document.querySelectorAll("[data-way]").forEach(tick);
  if (!locked && performance.now() - heard > SILENT_MS) {
    lose(heard ? "no word from this pod: what is shown may be over" : "this pod does not answer");
  }
}, 1000);
connect();
