// Shows what /events tells. Every text goes in as text: nothing that a server or a stranger wrote becomes markup.
"use strict";
const SILENT_MS = 8000; // after this without a word what is shown may be over
const AGAIN_MS = 10000; // a connection that says nothing is given up for another: it may have ended without a word
// Without the name and token that the address bar may hold (any:TOKEN@pod), with which a script may not ask.
const EVENTS = location.origin + location.pathname.replace(/[^/]*$/, "events");
const $ = (id) => document.getElementById(id);
let heard = null; // when the pod spoke last, on both clocks; null: never
let least = Infinity; // the smallest difference of this browser's clock and the pod's on this connection
let refusal = null; // what the pod says instead of who forges, for the corner and for the headline
let ended = false, version = "", shownStanding = "";

function make(tag, text, name) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
}
const say = (element, text) => { if (element.textContent !== text) element.textContent = text; };

// Makes `old` like `fresh` and touches only what differs: a reader's place, a selection and a live region stay as they are.
function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
  if (old.nodeType === Node.TEXT_NODE) {
    old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const were = [...old.childNodes], are = [...fresh.childNodes];
  are.forEach((child, i) => (i < were.length ? morph(were[i], child) : old.append(child)));
  were.slice(are.length).forEach((child) => child.remove());
}
function fill(parent, children) {
  const fresh = parent.cloneNode(false);
  fresh.append(...children);
  morph(parent, fresh);
}

function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  return s < 172800 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} days`;
}

// ms since the pod spoke. One clock stands still while the machine sleeps, the other may be set: the longer time counts.
const silence = () => (heard ? Math.max(performance.now() - heard.steady, Date.now() - heard.wall) : performance.now());

// A number that goes on counting between two messages: data-from is its value when the pod spoke last.
function counting(seconds, way, shape) {
  const element = make("span");
  Object.assign(element.dataset, { from: seconds, way, shape });
  tick(element);
  return element;
}
function tick(element, passed = silence() / 1000) {
  const { from, way, shape } = element.dataset;
  say(element, shape.replace("@", span(way === "up" ? +from + passed : +from - passed)));
}

function fact(name, value, look) {
  const row = make("div"), dd = make("dd", undefined, look);
  dd.append(value instanceof Node ? value : String(value));
  row.append(make("dt", name), dd);
  return row;
}
const known = (value) => (value === null || value === undefined || value === "" ? "unknown" : value);
const short = (id) => (id.length > 24 ? `${id.slice(0, 12)}…` : id); // whole among the keys
const many = (count, one) => `${count} ${one}${count === 1 ? "" : "s"}`;

// Times are the pod's, in this browser's zone, which is said; the browser's own clock counts for none of them.
const day = (seconds) => new Date(seconds * 1000).toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" });
const SHAPE = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
const clock = (seconds, zone) => new Date(seconds * 1000).toLocaleTimeString(undefined, zone ? { ...SHAPE, timeZoneName: "short" } : SHAPE);
const utc = (seconds) => `${new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ")} UTC`;
function moment(seconds, now) {
  const time = make("time", (day(seconds) === day(now) ? "" : `${day(seconds)} `) + clock(seconds));
  time.dateTime = new Date(Math.round(seconds) * 1000).toISOString();
  return time;
}

function show(told) {
  const { headline: h, status: s, now } = told;
  head(h.standing, s.pod);
  document.body.classList.remove("stale");
  $("age").hidden = true;
  say($("asof"), `· as of ${day(now)}, ${clock(now, true)}`);
  say($("pod"), [s.pod, s.namespace, s.network, s.pool.ticker || short(s.pool.id)].filter(Boolean).join(" · "));
  say($("title"), h.title);
  say($("version"), `version ${s.version}`);
  const stopping = s.forging && s.fence && s.fence.state === "fencing" && "told to stop";
  const marks = [stopping, s.standing_down_seconds > 0 && "standing down", s.paused && "paused", s.pool.state === "Disabled" && "cluster Disabled"];
  fill($("marks"), marks.filter(Boolean).map((text) => make("span", text, "mark")));
  const since = make("span"), began = h.since_seconds === null ? null : moment(now - h.since_seconds, now);
  // What the time line began with was so before; nobody here knows since when.
  const least = !s.forging && told.timeline.some((each) => !each.old && each.seconds_ago === h.since_seconds);
  if (least) since.append("before ", began, counting(h.since_seconds, "up", ", at least @ ago"));
  else if (began) since.append(began, counting(h.since_seconds, "up", ", @ ago"));
  const leader = s.leader, next = fact("Next", known(h.next));
  next.className = "wide";
  fill($("facts"), [
    fact("Right to forge", h.forger || "nobody known"),
    fact("Cluster", h.cluster === "unknown" ? "not named: CLUSTER_REGION is not set" : known(h.cluster)),
    fact("Since", began ? since : "unknown"),
    fact("Right lasts", h.until_seconds === null ? "unknown" : counting(h.until_seconds, "down", "@, unless renewed")),
    next,
    fact("Lease", leader ? `${leader.holder || "nobody"} (token ${leader.token})` : "unknown"),
    ...(s.pool.lock ? [fact("Pool-wide lock", `${s.pool.holder || "nobody"} (token ${s.pool.token})`)] : []),
  ]);
  fill($("warnings"), s.warnings.map((text) => make("p", text)));
  fill($("why"), h.why.map((text) => make("li", text)));
  health(s, told.kes);
  clusters(s.pool);
  keys(told.kes, s.credentials);
  node(s);
  workers(s);
  line(told.timeline, now);
}

const good = (is) => (is ? "ok" : "off");

function health(s, kes) {
  const all = Object.values(s.workers), alive = all.filter((each) => each.alive).length, members = s.pool.members;
  const found = (severity) => (s.credentials ? s.credentials.findings.filter((each) => each.severity === severity).length : 0);
  const wrong = found("error"), doubtful = found("warning");
  const days = kes ? kes.days_left : null;
  const left = days === null ? "KES days unknown" : days > 0 ? `${days} KES days left` : "KES expired";
  const asked = s.workers.prober.alive; // else nobody looks at the node
  const answering = members ? members.filter((each) => each.api_ok).length : 0;
  fill($("health"), [
    fact("Node", asked ? (s.node.fit ? "fit" : "not fit") : "unknown", asked ? good(s.node.fit) : "soon"),
    fact("Keys", wrong ? `${left}, ${many(wrong, "error")}` : left, wrong || (days !== null && days <= 0) ? "off" : days === null || doubtful ? "soon" : "ok"),
    fact("Workers", `${alive} of ${all.length} alive`, good(alive === all.length)),
    fact("Kubernetes API", s.leader ? (s.leader.api_ok ? "answers" : "does not answer") : "unknown", s.leader ? good(s.leader.api_ok) : "soon"),
    ...(members ? [fact("Coordination APIs", `${answering} of ${members.length} answer, ${s.pool.majority} must`, answering < s.pool.majority ? "off" : answering < members.length ? "soon" : "ok")] : []),
  ]);
}

function clusters(pool) {
  $("clusters").hidden = !pool.clusters;
  if (!pool.clusters) return;
  fill($("clusters").querySelector("tbody"), pool.clusters.map((each) => {
    const row = make("tr"), name = make("th", each.name), age = make("td");
    name.scope = "row";
    if (each.name === pool.holder) name.append(make("span", "holds the pool-wide lock", "reason"));
    if (each.why_not) name.append(make("span", `cannot forge: ${each.why_not}`, "reason off"));
    if (each.name === pool.cluster) age.append("this one");
    else if (each.heard_seconds_ago !== null) age.append(counting(each.heard_seconds_ago, "up", "@ ago"));
    row.append(name, make("td", each.state || "?"), make("td", each.priority), make("td", each.leader || "nobody"), age);
    return row;
  }));
  const enabled = pool.clusters.filter((each) => each.state === "Enabled").map((each) => each.name);
  const troubled = [enabled.length > 1 && `more than one cluster is Enabled: ${enabled.join(", ")}`, pool.objection, ...pool.members.filter((each) => each.problem).map((each) => `coordination API ${each.name}: ${each.problem}`)];
  fill($("members"), troubled.filter(Boolean).map((text) => make("li", text, "warning")));
}

function line(entries, now) {
  say($("zone"), entries.length ? `Newest first, times in ${Intl.DateTimeFormat().resolvedOptions().timeZone}` : "Nothing yet.");
  fill($("line"), entries.map((each) => {
    const bad = each.new === "silent" || (each.about === "keys" && each.new !== "usable");
    const item = make("li", undefined, bad ? "bad" : each.new === "armed" ? "good" : ""), text = make("div");
    text.append(make("span", `${each.about}: ${each.old ? each.old + " → " : ""}${each.new}`, "what"));
    if (each.token) text.append(` token ${each.token}`);
    if (each.why) text.append(make("span", each.why, "reason"));
    item.append(moment(each.time, now), text);
    return item;
  }));
}

function keys(kes, credentials) {
  const parts = [];
  if (kes) {
    const days = kes.days_left, until = utc(kes.expires_at);
    parts.push(make("p", days <= 0 ? `The certificate expired on ${until}.` : `${days} days left, until ${until} (${many(kes.periods_left, "KES period")}).`));
    if (days > 0) {
      const meter = make("meter");
      for (const [name, value] of Object.entries({ min: 0, max: 90, low: 7, high: 14, optimum: 90, value: Math.min(90, days), "aria-label": "KES days left" })) meter.setAttribute(name, value);
      parts.push(meter);
    }
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

function node(s) {
  const shown = s.node, checked = s.health_check, lag = shown.tip_lag_seconds;
  const rows = [
    fact("Fit", shown.fit ? "yes" : `${s.workers.prober.alive ? "no" : "unknown"}: ${shown.reasons.join("; ")}`, good(shown.fit)),
    fact("It says it forges", shown.forging_enabled === 1 ? "yes" : shown.forging_enabled === 0 ? "no" : "unknown"),
    fact("Fence", s.fence ? `${s.fence.state} (${s.fence.mode})` : "unknown"),
    fact("Process", shown.pid ? `pid ${shown.pid}` : "none"),
    fact("Slot", known(shown.slot)),
    fact("Tip behind", typeof lag === "number" ? `${lag} s` : "unknown"),
  ];
  if (!s.startup.ready) rows.push(fact("Start", s.startup.reason, "soon"));
  if (checked) rows.push(fact("Health check", checked.healthy ? "healthy" : `fails: ${checked.message}`, good(checked.healthy)));
  const slots = s.leadership;
  if (slots && slots.next_slot_seconds !== null) rows.push(fact("Next slot", counting(slots.next_slot_seconds, "down", "in @")));
  fill($("node"), rows);
}

function workers(status) {
  fill($("workers").querySelector("tbody"), Object.entries(status.workers).map(([name, each]) => {
    const row = make("tr"), head = make("th", name), box = status.sandbox[name], cost = each.cost;
    head.scope = "row";
    const up = make("td"), state = make("td", each.alive ? "alive" : "silent", good(each.alive));
    if (each.alive) up.append(counting(each.up_seconds, "up", "@"));
    else if (each.heard_seconds_ago !== undefined) state.append(counting(each.heard_seconds_ago, "up", " for @"));
    const closed = !box ? "unknown" : box.closed ? (box.violations.length ? many(box.violations.length, "violation") : "closed") : "open";
    row.append(head, state, up,
      make("td", cost && cost.memory_bytes ? `${(cost.memory_bytes / 1048576).toFixed(1)} MiB` : ""),
      make("td", closed, closed === "closed" ? "" : "off"));
    return row;
  }));
}

// What a glance at a row of tabs tells: colour and shape of the standing.
const SHAPES = {
  forging: ["#0d8a3c", "M1 8a7 7 0 1 1 14 0A7 7 0 1 1 1 8"],
  standby: ["#1a63d8", "M1 8a7 7 0 1 1 14 0A7 7 0 1 1 1 8M4 8a4 4 0 1 0 8 0A4 4 0 1 0 4 8"],
  fenced: ["#c5221f", "M1 1h14v14H1z"],
  conflict: ["#c5221f", "M8 0l8 15H0z"],
  unknown: ["#b26a00", "M8 0l8 8-8 8-8-8z"],
};
function head(standing, pod) {
  document.title = `${standing}: ${pod || "Forge Manager"}`;
  say($("standing"), standing);
  if (standing === shownStanding) return;
  shownStanding = document.body.dataset.standing = standing;
  const canvas = make("canvas"), [colour, shape] = SHAPES[standing];
  canvas.width = canvas.height = 32;
  const pen = canvas.getContext("2d");
  pen.scale(2, 2);
  pen.fillStyle = colour;
  pen.fill(new Path2D(shape));
  $("icon").href = canvas.toDataURL();
}

function link(name, text) {
  const element = $("link");
  element.className = name;
  say(element, text);
}

// Strangers write names and reasons: what would turn the words around it about, or hide, is shown by its number.
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;
const printable = (key, value) => (typeof value === "string"
  ? value.replace(/\s/g, " ").replace(UNPRINTABLE, (one) => `\\u${one.codePointAt(0).toString(16).padStart(4, "0")}`) : value);

function take(message, again) {
  const told = JSON.parse(message.data, printable), lag = Date.now() - told.now * 1000;
  least = Math.min(least, lag);
  const late = lag - least; // it waited somewhere, as while this tab was frozen; or a clock was set
  if (late > SILENT_MS) return again();
  refusal = null;
  heard = { steady: performance.now() - late, wall: Date.now() - late };
  show(told);
  version = version || told.status.version;
  link("live", version === told.status.version ? "live" : "live; it is another version by now: reload this page");
}

let source = null, asked = 0;

function connect() {
  if (source) source.close();
  source = new EventSource(EVENTS);
  asked = performance.now();
  source.onopen = () => { least = Infinity; };
  source.onmessage = (message) => {
    try {
      take(message, connect);
    } catch (error) {
      console.error(error);
      source.close();
      end("what it tells is not understood: reload this page", "this page does not understand what its pod tells");
    }
  };
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) refused();
  };
}

// An EventSource does not tell why it was refused: because too many look already, or the token is another one by now.
async function refused() {
  let status = 0;
  try {
    status = (await fetch(EVENTS, { method: "HEAD" })).status;
  } catch {
    status = 0; // it cannot be asked
  }
  if (status === 401) return end("its token has changed: reload this page, which asks for the new one", "this pod asks for its token");
  refusal = status === 503 ? ["as many look at this pod as may; this page tries again", "too many look at this pod"] : null;
  setTimeout(connect, 2000);
}

function end(why, because) {
  ended = true;
  refusal = [why, because];
  look();
}

function lose(why, because) {
  link("lost", why);
  head("unknown", $("pod").textContent.split(" · ")[0]);
  say($("title"), `It is not known who forges: ${because}`);
  $("age").hidden = !heard;
  if (heard) say($("age"), `What stands below was so ${span(silence() / 1000)} ago, and may be over.`);
  if (!document.body.classList.contains("stale")) document.querySelectorAll("[data-way]").forEach((each) => tick(each, 0));
  document.body.classList.add("stale");
}

function look() {
  if (ended || silence() > SILENT_MS) {
    const silent = heard ? "no word from this pod: what is shown may be over" : "this pod does not answer";
    lose(...(refusal || [silent, "this pod does not answer"]));
    if (!ended && source.readyState !== EventSource.CLOSED && performance.now() - asked > AGAIN_MS) connect();
  } else document.querySelectorAll("[data-way]").forEach((each) => tick(each));
}
setInterval(look, 1000);
document.addEventListener("visibilitychange", look); // while hidden the browser calls it once a minute at most
connect();
