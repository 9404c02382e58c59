// The page of codexd. All that it shows comes from the daemon's HTTP API and goes into the document
// as text, never as markup: what agents and commands say is a stranger's word.

const KEY = "codexd-page-key";
const EVENTS_SHOWN = 200;
const TEXT_SHOWN = 20000;
const TURNS_SHOWN = 30;
const POLL_MS = 5000;
const HIDDEN_POLL_MS = 20000;
// The daemon's streams say something at least every 15 seconds.
const SILENT_MS = 30000;
// A page that nobody looks at leaves its connection to others: browsers have six for one address.
const HIDDEN_MS = 60000;
const RETRY_MS = [300, 600, 1200, 2000];
const AWAY_POLL_MS = 1000;
const HISTORY_EVENTS = 50000;
const NOISE = new Set(["child.stdout", "child.stderr"]);
const TIMELINE = [
  "daemon.started", "daemon.stopped", "child.started", "child.ready", "child.exited",
  "child.restarting", "child.abandoned", "child.unhealthy", "child.spawn.failed", "child.stopped",
  "link.lost", "turn.started", "turn.completed", "turn.interrupted",
];

// -- the document ---------------------------------------------------------------------------------

const at = (id) => document.getElementById(id);

// Characters that hide others, or turn their order around, are shown by their numbers: a command
// that is to be accepted has to look like what it is.
const HIDING = /(?![\n\t])[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}\u034f\u115f\u1160\u2800\u3164\uffa0]/gu;

function byNumber(one) {
  const number = one.codePointAt(0).toString(16);
  return number.length > 4 ? `\\u{${number}}` : `\\u${number.padStart(4, "0")}`;
}

function plain(value, limit = TEXT_SHOWN) {
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2) ?? "";
  const cut = text.length > limit ? `${text.slice(0, limit)}\n… ${text.length - limit} characters more` : text;
  return cut.replaceAll("\r\n", "\n").replace(HIDING, byNumber);
}

function make(tag, className, ...parts) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  for (const part of parts) {
    if (part !== null && part !== undefined) node.append(part instanceof Node ? part : plain(part));
  }
  return node;
}

function draw(tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  if (text !== undefined) node.textContent = plain(text, 200);
  return node;
}

function button(text, act, className = "") {
  const node = make("button", className, text);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const MINUTES = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });

function moment(iso) {
  const date = new Date(iso);
  const node = make("time", "", Number.isNaN(date.getTime()) ? iso : CLOCK.format(date));
  node.dateTime = iso;
  if (date.toDateString() !== new Date().toDateString() && !Number.isNaN(date.getTime())) {
    node.textContent = `${DAY.format(date)} ${node.textContent}`;
  }
  return node;
}

function ago(iso) {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(iso)) / 1000));
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}

function notice(text) {
  at("notice").hidden = !text;
  at("notice").textContent = plain(text ?? "", 500);
}

// A list whose entries stay the same nodes, so that focus and what is being read stay in place.
function keep(list, entries, keyOf, render) {
  const keys = new Set(entries.map(keyOf)), before = new Map();
  // First of all: what stays is not moved then, for that would take the focus from it.
  for (const node of [...list.children]) {
    if (keys.has(node.dataset.key)) before.set(node.dataset.key, node);
    else node.remove();
  }
  let place = list.firstElementChild;
  for (const entry of entries) {
    const key = keyOf(entry), print = JSON.stringify(entry);
    let node = before.get(key);
    if (!node || node.dataset.print !== print) {
      const made = render(entry);
      made.dataset.key = key;
      made.dataset.print = print;
      if (node) {
        const focused = [...node.querySelectorAll("button")].indexOf(document.activeElement);
        if (place === node) place = made;
        node.replaceWith(made);
        if (focused >= 0) made.querySelectorAll("button")[focused]?.focus();
      }
      node = made;
    }
    if (node === place) place = place.nextElementSibling;
    else list.insertBefore(node, place);
  }
}

// -- the daemon -----------------------------------------------------------------------------------

class Away extends Error {}
class LeftOut extends Error {}
class Problem extends Error {
  constructor(status, body) {
    super(body?.detail ?? `codexd answers ${status}.`);
    this.status = status;
    this.kind = String(body?.type ?? "").split(":").pop();
  }
}

let generation = 0;

async function send(method, path, { body, accept = "application/json", signal, headers = {} } = {}) {
  const sent = { Accept: accept, "Codexd-Page": localStorage.getItem(KEY) ?? "none", ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method, headers: sent, signal, cache: "no-store", credentials: "same-origin", redirect: "error",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    throw new Away(String(error));
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => null);
  if (response.status === 401) {
    leaveOut("Its session has ended: it was not used for twelve hours, or the token was changed.");
    throw new LeftOut();
  }
  throw new Problem(response.status, problem);
}

async function ask(method, path, options = {}) {
  const response = await send(method, path, { signal: AbortSignal.timeout(SILENT_MS), ...options });
  try {
    return await response.json();
  } catch (error) {
    throw new Away(String(error));
  }
}

// The server-sent events of an answer, as {name, data}; `alive` is called whatever comes.
async function* frames(response, alive) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((error) => { throw new Away(String(error)); });
      if (done) return;
      alive();
      text += value;
      let end;
      while ((end = text.indexOf("\n\n")) >= 0) {
        const frame = { name: "message", data: "" };
        for (const line of text.slice(0, end).split("\n")) {
          if (line.startsWith("event: ")) frame.name = line.slice(7);
          if (line.startsWith("data: ")) frame.data += line.slice(6);
        }
        text = text.slice(end + 2);
        if (frame.data) yield frame;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// A stream that breaks off by itself where nothing comes any more.
function watched() {
  const control = new AbortController();
  let timer = 0;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => control.abort(), SILENT_MS);
  };
  alive();
  return { control, alive, over: () => clearTimeout(timer) };
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const path = (...parts) => `/v1/${parts.map(encodeURIComponent).join("/")}`;

// -- in and out -----------------------------------------------------------------------------------

function shownLink(state, text) {
  const link = at("link");
  if (link.dataset.state !== state) {
    link.dataset.state = state;
    link.textContent = text;
  }
}

function leaveOut(why) {
  generation += 1;
  shownLink("out", "Not let in");
  at("inside").hidden = true;
  at("door").hidden = false;
  at("door-why").textContent = why;
}

async function logIn() {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (!code) return start();
  // Neither history nor a copied address shall have it.
  history.replaceState(null, "", location.pathname);
  try {
    localStorage.setItem(KEY, (await exchanged(code)).key);
  } catch (error) {
    // Who is in already stays so, whatever becomes of the code.
    if (localStorage.getItem(KEY) === null) {
      return leaveOut(error instanceof Problem ? error.message : "codexd does not answer.");
    }
  }
  return start();
}

// The daemon may be coming back just now; a code is good for a minute.
async function exchanged(code) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await ask("POST", "/v1/page/sessions", { body: { code } });
    } catch (error) {
      if (!(error instanceof Away) || tries >= 20) throw error;
      shownLink("away", "codexd does not answer: trying again");
      await sleep(1000);
    }
  }
}

function start() {
  if (localStorage.getItem(KEY) === null) {
    leaveOut("It has not been introduced.");
    return;
  }
  generation += 1;
  at("door").hidden = true;
  at("inside").hidden = false;
  follow(generation);
  poll(generation);
}

// -- what is known --------------------------------------------------------------------------------

const known = { status: null, sessions: [], approvals: [], events: [], past: [], last: 0, hasMore: {} };

function trouble(error) {
  if (error instanceof LeftOut) return;
  if (error instanceof Away) {
    shownLink("away", "codexd does not answer: trying again");
  } else {
    notice(error.message);
  }
}

let tookMs = 0;

async function refresh() {
  const began = performance.now();
  const closed = at("sessions-closed").checked;
  const [status, approvals, sessions] = await Promise.all([
    ask("GET", "/v1/status"),
    ask("GET", "/v1/approvals?limit=100"),
    ask("GET", `/v1/sessions?limit=100${closed ? "" : "&status=active"}`),
  ]);
  known.status = status;
  known.approvals = approvals.approvals;
  known.sessions = sessions.sessions;
  known.hasMore = { approvals: approvals.next !== null, sessions: sessions.next !== null };
  tookMs = performance.now() - began;
  shownLink("live", "Live");
  show();
}

let asked = null, again = false;

// One at a time, and once more where something has happened meanwhile. A daemon that has much to do
// is asked less: for an eighth of the time at most.
function refreshSoon() {
  if (asked) {
    again = true;
    return asked;
  }
  asked = sleep(Math.min(Math.max(100, tookMs * 7), POLL_MS)).then(refresh).catch(trouble).finally(() => {
    asked = null;
    if (again) {
      again = false;
      refreshSoon();
    }
  });
  return asked;
}

async function poll(mine) {
  while (mine === generation) {
    await refreshSoon();
    const isAway = at("link").dataset.state === "away";
    await sleep(document.hidden ? HIDDEN_POLL_MS : isAway ? AWAY_POLL_MS : POLL_MS);
  }
}

function show() {
  showStatus();
  showApprovals();
  showSessions();
  showTimeline();
  const waiting = known.approvals.length;
  document.title = `${waiting ? `(${waiting}) ` : ""}codexd ${plain(known.status.identity?.nodeId ?? "", 60)}`;
}

// -- events ---------------------------------------------------------------------------------------

let stream = null;

async function follow(mine) {
  let tries = 0;
  while (mine === generation) {
    if (document.hidden && known.last) {
      await sleep(500);
      continue;
    }
    stream = watched();
    try {
      if (!known.last) await lookBack(stream.control.signal);
      const headers = { "Last-Event-ID": String(known.last) };
      const response = await send("GET", "/v1/events", {
        accept: "text/event-stream", signal: stream.control.signal, headers,
      });
      if (Number(response.headers.get("Codexd-Newest-Event")) < known.last) {
        // Another state directory: its events are others.
        Object.assign(known, { events: [], past: [], last: 0 });
        at("events").replaceChildren();
        continue;
      }
      tries = 0;
      refreshSoon();
      for await (const frame of frames(response, stream.alive)) {
        if (mine !== generation) return;
        take(JSON.parse(frame.data));
      }
    } catch (error) {
      if (mine === generation && !document.hidden) trouble(error);
    } finally {
      stream.over();
      stream.control.abort();
    }
    await sleep(RETRY_MS[Math.min(tries, RETRY_MS.length - 1)]);
    tries += 1;
  }
}

// What the timeline needs of the past, and the newest events.
async function lookBack(signal) {
  known.past = [];
  const response = await send("GET", "/v1/events?limit=1", { signal });
  await response.json();
  const newest = Number(response.headers.get("Codexd-Newest-Event"));
  const types = TIMELINE.map((type) => `&type=${type}`).join("");
  let since = Math.max(0, newest - HISTORY_EVENTS);
  while (since !== null && since < newest) {
    const page = await ask("GET", `/v1/events?since=${since}${types}`, { signal });
    known.past.push(...page.events.filter((event) => event.seq <= newest - EVENTS_SHOWN));
    since = page.next;
  }
  known.last = Math.max(0, newest - EVENTS_SHOWN);
}

let fresh = [];

function take(event) {
  if (event.seq <= known.last) return;
  known.last = event.seq;
  known.events.push(event);
  if (TIMELINE.includes(event.type)) known.past.push(event);
  fresh.push(event);
  if (fresh.length === 1) setTimeout(showFresh, 50);
}

function showFresh() {
  const events = fresh;
  fresh = [];
  known.events.splice(0, Math.max(0, known.events.length - EVENTS_SHOWN * 4));
  const day = Date.now() - 86400000;
  if (known.past.length > 4000) known.past = known.past.filter((event) => Date.parse(event.createdAt) > day).slice(-4000);
  showEvents(events);
  if (events.some((event) => /^(child|turn|approval|session|client|daemon|hub|link)\./.test(event.type) && !NOISE.has(event.type))) {
    refreshSoon();
  }
}

function isShown(event) {
  if (at("events-trouble").checked && event.level === "info") return false;
  return at("events-all").checked || !NOISE.has(event.type);
}

function eventRow(event) {
  const row = make("li", "", moment(event.createdAt), make("span", `mono ${event.level}`, event.level === "info" ? event.type : `${event.level}: ${event.type}`));
  row.append(make("span", "", plain(event.message, 400)));
  return row;
}

function showEvents(events) {
  const list = at("events"), box = list.parentElement;
  const rows = events.filter(isShown).slice(-EVENTS_SHOWN).reverse().map(eventRow);
  if (!rows.length) return;
  const height = box.scrollHeight;
  list.prepend(...rows);
  // Who reads further down stays there.
  if (box.scrollTop > 0) box.scrollTop += box.scrollHeight - height;
  while (list.children.length > EVENTS_SHOWN) list.lastElementChild.remove();
}

// -- status ---------------------------------------------------------------------------------------

function showStatus() {
  const { daemon, identity, hub, config, live } = known.status;
  const child = daemon.child;
  at("node").textContent = plain(identity?.nodeId ?? "", 60);
  const state = child.ready ? "ready" : child.status;
  const rows = [
    ["Server", child.ready ? `ready for ${ago(child.readyAt)}` : state],
    ["Process", child.pid === null ? "none" : `${child.pid}, started ${ago(child.startedAt)} ago`],
    ["codex", hub.serverVersion ?? "not known"],
    ["Restarts", `${child.restarts} since the daemon started`],
    ["Daemon", `${daemon.pid}, up for ${ago(daemon.startedAt)}`],
    ["Turns", `${hub.runningTurns} running`],
    ["Clients", `${hub.initializedClients}`],
    ["Sessions", `${hub.activeSessions} active`],
    ["Repository", config.paths.repoRoot],
  ];
  keep(at("status"), rows.flatMap(([name, value]) => [{ name }, { name, value }]),
    (entry) => `${entry.name}${"value" in entry}`,
    (entry) => ("value" in entry ? make("dd", "", entry.value) : make("dt", "", entry.name)));
  const said = [];
  if (!child.ready && child.lastError) said.push(child.lastError);
  if (child.nextRestartAt) said.push(`Next try at ${CLOCK.format(new Date(child.nextRestartAt))}.`);
  if (live.binaryChanged) said.push("A newer codex is on the disk: `codexd restart` takes it up.");
  if (hub.tcp?.fault) said.push(hub.tcp.fault);
  at("trouble").hidden = said.length === 0;
  at("trouble").textContent = plain(said.join(" "), 1000);
}

// -- approvals ------------------------------------------------------------------------------------

const KINDS = {
  commandExecution: "Run a command", execCommand: "Run a command", fileChange: "Change files",
  applyPatch: "Change files", permissions: "More permissions", userInput: "A question",
  elicitation: "A question of a tool server", toolCall: "Use a tool",
};
const WORDS = {
  accept: "Accept", acceptForSession: "Accept for the session", decline: "Decline", cancel: "Cancel the turn",
};
let movedAt = 0;
const deciding = new Set();

function showApprovals() {
  const list = at("approvals-list"), before = list.children.length, was = list.textContent;
  const entries = known.approvals.filter((entry) => !deciding.has(entry.approvalId));
  keep(list, entries, (entry) => entry.approvalId, approvalCard);
  const count = entries.length;
  at("approvals-count").textContent = `${count}${known.hasMore.approvals ? "+" : ""}`;
  at("approvals-none").hidden = count > 0;
  at("approvals").classList.toggle("waiting", count > 0);
  if (list.textContent !== was) movedAt = performance.now();
  if (count > before) at("approvals-said").textContent = count === 1 ? "An approval waits." : `${count} approvals wait.`;
  if (count === 0) at("approvals-said").textContent = "";
}

// What is to be decided on is shown whole, however long, and scrolls from the keyboard.
const whole = (value) => document.createTextNode(plain(value, Infinity));

function block(value) {
  const node = make("pre", "", whole(value));
  node.tabIndex = 0;
  return node;
}

function approvalCard(entry) {
  const { command, cwd, reason, files, ...rest } = entry.summary;
  const title = known.sessions.find((session) => session.threadId === entry.threadId)?.title;
  const card = make("li", "", make("div", "", make("span", "name", KINDS[entry.kind] ?? entry.kind), " ", make("span", "soft", title ?? entry.threadId ?? "")));
  if (reason) card.append(make("p", "", whole(reason)));
  if (command) card.append(block(Array.isArray(command) ? command.join(" ") : command));
  if (cwd) card.append(make("p", "soft", `in ${cwd}`));
  if (files?.length) card.append(block(files.map((file) => `${file.path ?? ""}\n${file.diff ?? ""}`.trimEnd()).join("\n")));
  if (Object.keys(rest).length) card.append(block(rest));
  card.append(make("p", "soft", "since ", moment(entry.since)));
  const actions = make("div", "actions");
  for (const word of entry.decisions) {
    const node = button(WORDS[word] ?? word, (event) => {
      // What has just moved under the pointer was not what it was aimed at.
      if (event.detail > 0 && performance.now() - movedAt < 500) return;
      decide(entry, word);
    }, word === "accept" ? "primary" : "");
    node.setAttribute("aria-label", `${node.textContent}: ${plain(command ?? entry.kind, 80)}`);
    actions.append(node);
  }
  if (!entry.decisions.length) actions.append(make("span", "soft", "This kind is answered in a client, or with an object over HTTP."));
  card.append(actions);
  return card;
}

async function decide(entry, decision) {
  deciding.add(entry.approvalId);
  const had = at("approvals-list").contains(document.activeElement);
  showApprovals();
  if (had) (at("approvals-list").querySelector("button") ?? at("main")).focus();
  try {
    await ask("POST", path("approvals", entry.approvalId), { body: { decision } });
    at("approvals-said").textContent = `Answered: ${WORDS[decision] ?? decision}.`;
    notice("");
  } catch (error) {
    trouble(error);
    if (error instanceof Away) notice("The answer may not have arrived: look whether it still waits.");
  }
  await refreshSoon();
  deciding.delete(entry.approvalId);
  if (known.status) showApprovals();
}

// -- sessions -------------------------------------------------------------------------------------

function nameOf(session) {
  return session.title || session.metadata?.title || `${session.purpose} ${(session.threadId ?? session.sessionId).slice(-8)}`;
}

function showSessions() {
  const entries = known.sessions.map(({ sessionId, threadId, title, cwd, status, purpose, clients, turn, metadata, updatedAt }) => (
    { sessionId, threadId, title, cwd, status, purpose, clients, turn, metadata, updatedAt }));
  at("sessions-count").textContent = `${entries.length}${known.hasMore.sessions ? "+" : ""}`;
  at("sessions-none").hidden = entries.length > 0;
  keep(at("sessions"), entries, (entry) => entry.sessionId, sessionCard);
  showTargets();
}

function sessionCard(entry) {
  const tag = entry.turn ? make("span", "tag on", "turn runs") : make("span", "tag", entry.status);
  const name = nameOf(entry);
  const card = make("li", "", make("div", "", make("span", "name", plain(name, 120)), " ", tag));
  const facts = [entry.cwd, entry.clients.length ? `clients: ${entry.clients.join(", ")}` : null].filter(Boolean);
  card.append(make("div", "soft", facts.join(" · ")));
  card.append(make("div", "soft mono", entry.threadId ?? entry.sessionId));
  if (!entry.threadId) return card;
  const actions = make("div", "actions");
  const add = (text, act) => {
    const node = button(text, act);
    node.setAttribute("aria-label", `${text}: ${plain(name, 80)}`);
    actions.append(node);
  };
  add("Transcript", () => openTranscript(entry));
  add("Prompt here", () => {
    showTargets(entry.threadId);
    at("prompt-text").focus();
  });
  if (entry.turn) add("Interrupt", () => interrupt(entry.threadId, entry.turn));
  card.append(actions);
  return card;
}

function showTargets(wanted) {
  const select = at("prompt-thread"), chosen = wanted ?? select.value;
  const threads = new Map(known.sessions.filter((entry) => entry.threadId).map((entry) => [entry.threadId, nameOf(entry)]));
  if (chosen && !threads.has(chosen)) threads.set(chosen, chosen);
  keep(select, [["", "a new one"], ...threads], ([id]) => id, ([id, name]) => {
    const option = make("option", "", plain(name, 80));
    option.value = id;
    return option;
  });
  if (select.value !== chosen) select.value = chosen;
  at("prompt-cwd-field").hidden = Boolean(chosen);
}

async function interrupt(threadId, turnId) {
  try {
    await ask("POST", path("threads", threadId, "turns", turnId, "interrupt"));
    notice("");
  } catch (error) {
    trouble(error);
  }
}

async function openTranscript(entry) {
  const body = at("transcript-body"), dialog = at("transcript");
  at("transcript-title").textContent = plain(nameOf(entry), 120);
  body.replaceChildren(make("p", "soft", "Reading…"));
  dialog.dataset.of = entry.sessionId;
  if (!dialog.open) dialog.showModal();
  try {
    const { turns = [] } = await ask("GET", path("threads", entry.threadId));
    showTurns(body, turns, Math.max(0, turns.length - TURNS_SHOWN));
  } catch (error) {
    trouble(error);
    const text = error instanceof Away ? "codexd does not answer now: try again." : error.message;
    body.replaceChildren(make("p", "trouble", text));
  }
}

function showTurns(body, turns, from) {
  const parts = [];
  if (from > 0) parts.push(button(`Show ${Math.min(from, TURNS_SHOWN)} turns before`, () => showTurns(body, turns, Math.max(0, from - TURNS_SHOWN))));
  for (const [index, turn] of turns.slice(from).entries()) {
    parts.push(make("h3", "", `Turn ${from + index + 1}: ${turn.status}`));
    for (const item of turn.items ?? []) parts.push(itemNode(item));
    if (turn.error) parts.push(make("p", "trouble", turn.error.message ?? turn.error));
  }
  if (!turns.length) parts.push(make("p", "soft", "No turn yet."));
  body.replaceChildren(...parts);
}

// -- what is said ---------------------------------------------------------------------------------

const texts = (content) => (content ?? []).map((part) => part.text ?? `[${part.type}]`).join("\n");

// For each type: who, a text, and what is shown as it is.
const ITEMS = {
  userMessage: (item) => ["user", "You", texts(item.content), null],
  agentMessage: (item) => ["agent", "codex", item.text ?? "", null],
  reasoning: (item) => ["", "Reasoning", (item.summary ?? []).map((part) => part.text ?? part).join("\n"), null],
  plan: (item) => ["", "Plan", item.text ?? "", null],
  commandExecution: (item) => ["", commandState(item), "", `$ ${item.command ?? ""}\n${item.aggregatedOutput ?? ""}`],
  fileChange: (item) => ["", `Files: ${item.status ?? ""}`, "", (item.changes ?? []).map((change) => `${change.path}\n${change.diff ?? ""}`).join("\n")],
  mcpToolCall: (item) => ["", `Tool ${item.server ?? ""}.${item.tool ?? ""}: ${item.status ?? ""}`, "", JSON.stringify(item.result ?? item.error ?? item.arguments ?? null, null, 2)],
  webSearch: (item) => ["", "Web search", item.query ?? "", null],
};

function commandState(item) {
  const code = item.exitCode === null || item.exitCode === undefined ? "" : `, exit code ${item.exitCode}`;
  const time = item.durationMs ? `, ${(item.durationMs / 1000).toFixed(1)} s` : "";
  return `Command: ${item.status ?? ""}${code}${time}`;
}

function itemNode(item) {
  const [kind, who, text, raw] = (ITEMS[item.type] ?? ((other) => ["", other.type, "", JSON.stringify(other, null, 2)]))(item);
  const node = make("div", `item ${kind}`, make("p", "who", plain(who, 200)));
  if (text || raw === null) node.append(make("p", "text", text));
  if (raw) node.append(make("pre", "", raw.trimEnd()));
  return node;
}

// -- a turn of one's own --------------------------------------------------------------------------

const run = { threadId: null, turnId: null, items: new Map(), isOn: false };

function runState(text) {
  at("run-state").textContent = plain(text, 500);
}

async function runPrompt(event) {
  event.preventDefault();
  const input = at("prompt-text").value;
  if (run.isOn || !input.trim()) return;
  Object.assign(run, { isOn: true, threadId: at("prompt-thread").value || null, turnId: null, items: new Map() });
  const had = document.activeElement === at("prompt-run");
  at("prompt-run").disabled = true;
  at("run").replaceChildren();
  at("run").hidden = false;
  notice("");
  try {
    await runTurn(input);
  } catch (error) {
    trouble(error);
    runState(error instanceof Away ? "codexd went away before it said whether the turn runs: look at its transcript before you try again." : error.message);
  }
  Object.assign(run, { isOn: false });
  at("prompt-run").disabled = false;
  const was = document.activeElement === at("prompt-interrupt");
  at("prompt-interrupt").disabled = true;
  // What is disabled loses the focus, and Tab would begin at the top.
  if (was || (had && document.activeElement === document.body)) at("prompt-run").focus();
  refreshSoon();
}

async function runTurn(input) {
  if (run.threadId === null) {
    runState("Opening a thread…");
    const cwd = at("prompt-cwd").value.trim();
    run.threadId = (await ask("POST", "/v1/threads", { body: cwd ? { cwd } : {} })).threadId;
    showTargets(run.threadId);
  }
  runState("Starting…");
  const stream = watched();
  let finished = null;
  try {
    const response = await send("POST", path("threads", run.threadId, "turns"), {
      body: { input }, accept: "text/event-stream", signal: stream.control.signal,
    });
    at("prompt-text").value = "";
    for await (const frame of frames(response, stream.alive)) {
      const data = JSON.parse(frame.data);
      if (frame.name === "finished") finished = data;
      else hear(frame.name, data.params ?? {});
    }
  } catch (error) {
    if (!(error instanceof Away) || run.turnId === null) throw error;
  } finally {
    stream.over();
    stream.control.abort();
  }
  end(finished ?? await awaited());
}

// The stream broke off; the turn goes on, or its end is known to the daemon that comes back.
async function awaited() {
  if (run.turnId === null) throw new Away("no turn");
  runState("The connection broke off; the turn is looked for…");
  for (;;) {
    try {
      const turn = await ask("GET", path("threads", run.threadId, "turns", run.turnId));
      if (turn.status !== "inProgress") {
        at("run").replaceChildren(...turn.items.map(itemNode));
        return turn;
      }
    } catch (error) {
      // While the server comes back, it is refused as well.
      const isPassing = error instanceof Away || (error instanceof Problem && error.status === 503);
      if (!isPassing) throw error;
    }
    await sleep(1000);
  }
}

function end(turn) {
  const time = turn.durationMs ? ` after ${(turn.durationMs / 1000).toFixed(1)} s` : "";
  const why = turn.error ? `: ${turn.error.message ?? JSON.stringify(turn.error)}` : ".";
  runState(`The turn is ${turn.status}${time}${why}`);
}

function hear(method, params) {
  if (method === "turn/started") {
    run.turnId = params.turn?.id ?? null;
    at("prompt-interrupt").disabled = run.turnId === null;
    runState("The turn runs…");
  } else if (method === "item/started" || method === "item/completed") {
    place(params.item);
  } else if (method === "item/agentMessage/delta") {
    grow(params.itemId, params.delta);
  }
}

function place(item) {
  const node = itemNode(item), before = run.items.get(item.id);
  run.items.set(item.id, node);
  if (before) before.replaceWith(node);
  else at("run").append(node);
  scrollRun();
}

function grow(itemId, delta) {
  if (!run.items.has(itemId)) place({ id: itemId, type: "agentMessage", text: "" });
  const text = run.items.get(itemId).querySelector(".text");
  if (text && text.textContent.length < TEXT_SHOWN) text.append(plain(delta));
  scrollRun();
}

// To the end, unless somebody reads further up.
function scrollRun() {
  const box = at("run");
  if (box.scrollHeight - box.scrollTop - box.clientHeight < 150) box.scrollTop = box.scrollHeight;
}

// -- the timeline ---------------------------------------------------------------------------------

const LANE = 16, LANES = 5, AXIS = 20;
const DOWN = new Set(["child.started", "child.exited", "child.unhealthy", "child.spawn.failed", "child.stopped", "child.abandoned", "daemon.stopped", "link.lost"]);

// When the server was ready and when not: spans of {from, until, is}.
function serverSpans(events, now) {
  const spans = [];
  let from = null, is = null;
  const turnTo = (time, next) => {
    if (next === is) return;
    if (is) spans.push({ from, until: time, is });
    from = time;
    is = next;
  };
  for (const event of events) {
    const time = Date.parse(event.createdAt);
    if (event.type === "child.ready") turnTo(time, "up");
    else if (event.type === "daemon.stopped") turnTo(time, null);
    else if (DOWN.has(event.type)) turnTo(time, "down");
  }
  if (is) spans.push({ from, until: now, is });
  return spans;
}

function turnSpans(events, now) {
  const open = new Map(), spans = [];
  for (const event of events) {
    const id = event.detail?.turnId, time = Date.parse(event.createdAt);
    if (event.type === "turn.started") open.set(id, { from: time, until: now, is: "turn", isOpen: true });
    const span = open.get(id);
    if (span && (event.type === "turn.completed" || event.type === "turn.interrupted")) {
      open.delete(id);
      spans.push({ ...span, until: time, isOpen: false, is: event.type === "turn.completed" ? "turn" : "cut" });
    }
  }
  return [...spans, ...open.values()].sort((a, b) => a.from - b.from);
}

// The first lane that is free, or the last.
function laned(spans, gap) {
  const free = [];
  return spans.map((span) => {
    let lane = free.findIndex((until) => until + gap <= span.from);
    if (lane < 0) lane = Math.min(free.length, LANES - 1);
    free[lane] = span.until;
    return { ...span, lane };
  });
}

function ticks(since, now, most) {
  const steps = [10, 30, 60, 300, 600, 1800, 3600, 7200, 14400].map((seconds) => seconds * 1000);
  const step = steps.find((one) => (now - since) / one <= most) ?? 28800000;
  const found = [];
  const shift = new Date(now).getTimezoneOffset() * 60000;
  for (let time = Math.ceil((since - shift) / step) * step + shift; time < now; time += step) found.push(time);
  return { found, format: step < 60000 ? CLOCK : MINUTES };
}

function showTimeline() {
  const now = Date.now(), width = at("timeline").clientWidth || 600;
  // A daemon that is younger than that is shown from its beginning.
  const first = Math.min(now - 60000, Date.parse(known.past[0]?.createdAt) || now);
  const since = Math.max(now - Number(at("timeline-span").value) * 60000, first);
  const x = (time) => ((Math.max(time, since) - since) / (now - since)) * width;
  const server = serverSpans(known.past, now).filter((span) => span.until > since);
  const turns = laned(turnSpans(known.past, now).filter((span) => span.until > since), ((now - since) / width) * 2);
  const recent = known.past.filter((event) => Date.parse(event.createdAt) > since);
  const exits = recent.filter((event) => event.type === "child.exited");
  const lanes = Math.max(1, ...turns.map((span) => span.lane + 1));
  const height = AXIS + LANE * (lanes + 1) + 8;
  const ended = `${turns.length} turns, ${turns.filter((span) => span.isOpen).length} of them running`;
  const label = `${at("timeline-span").selectedOptions[0].textContent}: the server ended ${exits.length} times; ${ended}.`;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `The last ${label}` });
  const { found, format } = ticks(since, now, width / 90);
  for (const time of found) {
    svg.append(draw("line", { class: "axis", x1: x(time), x2: x(time), y1: 0, y2: height - AXIS }));
    const anchor = x(time) < 40 ? "start" : x(time) > width - 40 ? "end" : "middle";
    svg.append(draw("text", { x: x(time), y: height - 6, "text-anchor": anchor }, format.format(time)));
  }
  const bar = (span, y, high) => svg.append(draw("rect", {
    class: span.is, x: x(span.from), y, width: Math.max(1.5, x(span.until) - x(span.from)), height: high,
  }));
  for (const span of server) bar(span, 4, LANE - 6);
  for (const event of exits) {
    const place = x(Date.parse(event.createdAt));
    svg.append(draw("line", { class: "mark", x1: place, x2: place, y1: 0, y2: LANE + 2 }));
  }
  for (const span of turns) bar(span, LANE + 6 + span.lane * LANE, LANE - 5);
  at("timeline").replaceChildren(svg);
  keep(at("timeline-list"), recent.slice(-50).reverse(), (event) => String(event.seq), eventRow);
}

// -- begin ----------------------------------------------------------------------------------------

at("prompt").addEventListener("submit", runPrompt);
at("prompt-text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("prompt").requestSubmit();
});
at("prompt-interrupt").addEventListener("click", () => interrupt(run.threadId, run.turnId));
at("prompt-thread").addEventListener("change", () => showTargets());
at("timeline-span").addEventListener("change", showTimeline);
addEventListener("resize", showTimeline);
at("sessions-closed").addEventListener("change", refreshSoon);
for (const id of ["events-all", "events-trouble"]) {
  at(id).addEventListener("change", () => {
    at("events").replaceChildren();
    showEvents(known.events);
  });
}
let hiding = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(() => stream?.control.abort(), HIDDEN_MS);
  else refreshSoon();
});
// The session may have been drawn anew since its transcript was opened. The focus may still be on what
// is hidden now: a browser takes it away from there when it next paints.
at("transcript").addEventListener("close", ({ currentTarget: dialog }) => {
  const focused = document.activeElement;
  if (focused !== document.body && !dialog.contains(focused)) return;
  const card = [...at("sessions").children].find((node) => node.dataset.key === dialog.dataset.of);
  (card?.querySelector("button") ?? at("main")).focus();
});
addEventListener("hashchange", logIn);
// Another tab was let in: so is this one.
addEventListener("storage", (event) => {
  if (event.key === KEY && event.newValue !== null && !at("door").hidden) start();
});
logIn();
