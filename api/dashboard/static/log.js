// The log of a job: only the rows in view are in the page, so a log of any length scrolls. Text is text, whatever it says.
"use strict";
(() => {
const root = document.getElementById("log");
if (!root) return;

const WHOLE = 32e6, END = 4e6, PART = 8e6; // bytes: loaded at once, or only this much of the end, and more at a time
const TALLEST = 8e6; // pixels; browsers do not scroll much further, so beyond that a pixel is more than a pixel
const MOST = 2e6, KEPT = 1e6; // lines: loaded at once, and kept of what is followed
const CUT = 1 << 20; // characters of a line that are kept; the rest of it is in the download
const AROUND = 15, LONGEST = 4000, MOST_FOUND = 10000, TAB = 8;
const path = `/reconciler/jobs/${root.dataset.job}/log`, index = `/ui/jobs/${root.dataset.job}/log/index`;
const chosen = root.dataset.query;
const find = (id) => document.getElementById(`log-${id}`);
const [say, found, word] = [find("say"), find("found"), find("word")];
const ways = Object.fromEntries([...root.querySelectorAll("[data-way]")].map((each) => [each.dataset.way, each]));
const address = (base, given) => { const all = new URLSearchParams(chosen); for (const [name, value] of Object.entries(given)) all.set(name, value); return `${base}?${all}`; };
const make = (name, kind, text) => { const made = document.createElement(name); made.className = kind; if (text !== undefined) made.textContent = text; return made; };

// What is loaded: lines `base` and following, the bytes `from` to `until` of the log; of the last line so far the bytes
// are the first `held` of `rest`, which has room for more.
let texts = [], offsets = [], states = [], inside = [], tops = [], rows = 0;
let base = 1, from = 0, until = 0, size = 0, rest = new Uint8Array(1024), held = 0, ended = true, generation = 0;
let sections = [], open = -1, state = 0;
let times = { at: [], offset: [] };
let follow = false, wraps = keptChoice("wrap", innerWidth < 700), shows = keptChoice("times", false);
let picked = null, query = null, hits = [], hit = -1, searching = 0, columns = 80;
let hearing = Promise.resolve();
let stream = null, drawing = 0, stale = true, lastTop = 0, loading = false;

const body = make("div", "log-body"), sizer = make("div", "log-size"), place = make("div", "log-rows");
Object.assign(body, { tabIndex: 0 });
for (const [name, value] of [["role", "log"], ["aria-live", "off"], ["aria-label", "Log"], ["aria-description", "Press / to search, l for a link to the first line in view"]]) body.setAttribute(name, value);
body.append(sizer); sizer.append(place);
find("text").replaceWith(body);
find("tools").hidden = false;
say.textContent = "";

function keptChoice(name, otherwise) { try { const kept = localStorage.getItem(`log-${name}`); return kept === null ? otherwise : kept === "1"; } catch { return otherwise; } }
function keep(name, value) { try { localStorage.setItem(`log-${name}`, value ? "1" : "0"); } catch { /* not kept, then */ } }

// Lines: colours go on from line to line, sections hold lines.
const SEQUENCE = /\x1b(?:\[([0-?]*)[ -\/]*([@-~])|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -\/]*[0-~])|[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;
const TURNS = /[\u202a-\u202e\u2066-\u2069]/; // would have text read in another order than it was printed in
const SPECIAL = /[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/;
const MARK = /^(?:\x1b\[0K)?(?:==> (.+) <==$|(?:::|##\[)group(?:::|\])(.*)|((?:::|##\[)endgroup(?:::|\]))|section_start:\d+:[^\r]*\r?(?:\x1b\[0K)?(.*)|(section_end:\d+:))/;
const BOLD = 1 << 10, FAINT = 1 << 11, ITALIC = 1 << 12, UNDER = 1 << 13, TURNED = 1 << 14, STRUCK = 1 << 15;
const FLAGS = { 1: BOLD, 2: FAINT, 3: ITALIC, 4: UNDER, 7: TURNED, 9: STRUCK }, OFF = { 22: BOLD | FAINT, 23: ITALIC, 24: UNDER, 27: TURNED, 29: STRUCK };

function nearest(red, green, blue) {
  const high = Math.max(red, green, blue), half = Math.max(high / 2, 48);
  if (high < 64) return 0;
  if (high - Math.min(red, green, blue) < 32) return high < 140 ? 8 : high < 220 ? 7 : 15;
  return (red > half ? 1 : 0) + (green > half ? 2 : 0) + (blue > half ? 4 : 0) + (high > 215 ? 8 : 0);
}
function quantised(number) {
  if (number < 16) return number;
  if (number > 231) { const grey = 8 + (number - 232) * 10; return nearest(grey, grey, grey); }
  const step = (by) => { const level = Math.floor((number - 16) / by) % 6; return level ? 55 + level * 40 : 0; };
  return nearest(step(36), step(6), step(1));
}
function styled(before, parameters) {
  const codes = parameters.split(/[;:]/).map(Number);
  let now = before;
  const colour = (value, shift) => { now = (now & ~(31 << shift)) | ((value + 1) << shift); };
  for (let at = 0; at < codes.length; at++) {
    const code = codes[at];
    if (code === 0) now = 0;
    else if (FLAGS[code]) now |= FLAGS[code];
    else if (OFF[code]) now &= ~OFF[code];
    else if ((code >= 30 && code < 38) || (code >= 40 && code < 48)) colour(code % 10, code < 40 ? 0 : 5);
    else if ((code >= 90 && code < 98) || (code >= 100 && code < 108)) colour((code % 10) + 8, code < 100 ? 0 : 5);
    else if (code === 39) now &= ~31;
    else if (code === 49) now &= ~(31 << 5);
    else if (code === 38 || code === 48) {
      const shift = code === 38 ? 0 : 5;
      if (codes[at + 1] === 5) { colour(quantised(codes[at + 2] & 255), shift); at += 2; }
      else if (codes[at + 1] === 2) { colour(nearest(codes[at + 2] || 0, codes[at + 3] || 0, codes[at + 4] || 0), shift); at += 4; }
    }
  }
  return now;
}

// A line as it is shown: its text, and from where on which style holds; what a carriage return has overwritten is gone.
function parsed(raw, before) {
  if (!SPECIAL.test(raw)) return { text: raw, runs: [[0, before]], after: before };
  let text = "", now = before, runs = [[0, before]], at = 0;
  const line = raw.replace(/\r+$/, "");
  const add = (piece) => {
    const back = piece.lastIndexOf("\r");
    if (back >= 0) { text = ""; runs = [[0, now]]; piece = piece.slice(back + 1); }
    if (TURNS.test(piece)) piece = piece.replace(/[\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
    for (const [place, part] of piece.split("\t").entries()) text += (place ? " ".repeat(TAB - (text.length % TAB)) : "") + part;
  };
  SEQUENCE.lastIndex = 0;
  for (let match; (match = SEQUENCE.exec(line));) {
    add(line.slice(at, match.index));
    at = SEQUENCE.lastIndex;
    if (match[0] === "\r") add("\r");
    else if (match[2] === "m" && !/[<-?]/.test(match[1])) { now = styled(now, match[1]); runs.push([text.length, now]); }
  }
  add(line.slice(at));
  return { text, runs, after: now };
}
function shown(at) {
  const found = parsed(texts[at], states[at]), mark = MARK.exec(texts[at]);
  if (!mark) return found;
  const title = mark[1] ?? mark[2] ?? mark[4];
  return title === undefined ? { ...found, text: "" } : { ...parsed(title, states[at]), head: true };
}

function note(whole, offset) {
  const raw = whole.length > CUT ? `${whole.slice(0, CUT)} \u2026 (this line is cut here; the download has all of it)` : whole;
  const at = texts.length, mark = /^[:#=s\x1b]/.test(raw) ? MARK.exec(raw) : null;
  texts.push(raw); offsets.push(offset); states.push(state);
  if (mark) {
    if (mark[1] !== undefined) { open = -1; state = 0; } // the next script
    if (mark[3] || mark[5]) { inside.push(open); open = open < 0 || sections[open].script ? open : sections[open].parent; lay(at); return; }
    inside.push(open);
    sections.push({ line: base + at, parent: open, script: mark[1] !== undefined, folded: false, lines: 0 });
    open = sections.length - 1;
  } else {
    inside.push(open);
    if (raw.includes("\x1b")) state = parsed(raw, state).after;
  }
  for (let each = inside[at]; each >= 0; each = sections[each].parent) sections[each].lines++;
  lay(at);
}
function hidden(at) {
  for (let each = inside[at]; each >= 0; each = sections[each].parent) if (sections[each].folded) return true;
  return false;
}
function lay(at) {
  tops[at] = rows;
  const mark = inside[at] >= 0 && /^(?:\x1b\[0K)?(?:(?:::|##\[)endgroup|section_end:)/.test(texts[at]);
  if (!mark && !hidden(at)) rows += wraps ? Math.max(1, Math.ceil(shown(at).text.length / columns)) : 1;
}
function layAll() {
  rows = 0; tops = new Array(texts.length); columns = measured();
  for (let at = 0; at < texts.length; at++) lay(at);
  stale = true;
}
function rescan() {
  const [allTexts, allOffsets] = [texts, offsets], folded = new Set(sections.filter((each) => each.folded).map((each) => each.line));
  texts = []; offsets = []; states = []; inside = []; tops = []; sections = []; open = -1; state = 0; rows = 0;
  allTexts.forEach((text, at) => note(text, allOffsets[at]));
  for (const each of sections) each.folded = folded.has(each.line);
  layAll();
}
function measured() {
  const probe = make("span", "what", "0".repeat(50));
  place.append(probe);
  const wide = probe.getBoundingClientRect().width / 50 || 8;
  probe.remove();
  const row = place.querySelector(".row .what"), left = row ? row.getBoundingClientRect().left - body.getBoundingClientRect().left + body.scrollLeft : 80;
  return Math.max(20, Math.floor((body.clientWidth - left - (sections.length ? 24 : 0) - 20) / wide));
}

// Bytes become lines; what has no end yet is held.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
function hold(bytes) {
  if (held + bytes.length > rest.length) {
    const more = new Uint8Array(2 * (held + bytes.length));
    more.set(rest.subarray(0, held));
    rest = more;
  }
  rest.set(bytes, held);
  held += bytes.length;
}
function take(bytes) {
  const offset = until - held, end = bytes.lastIndexOf(10) + 1;
  until += bytes.length;
  if (end) {
    let data = bytes.subarray(0, end);
    if (held) { hold(data); data = rest.slice(0, held); held = 0; }
    const lines = decoder.decode(data.subarray(0, data.length - 1)).split("\n");
    for (let at = 0, line = 0; line < lines.length; line++) {
      note(lines[line], offset + at);
      if (query) seek(texts.length - 1);
      at = data.indexOf(10, at) + 1;
    }
  }
  hold(bytes.subarray(end));
  size = Math.max(size, until);
  draw();
}
function finish() {
  if (held && until >= size) { const length = held; held = 0; note(decoder.decode(rest.subarray(0, length)), until - length); if (query) seek(texts.length - 1); }
  draw();
}

async function ask(given) {
  const answer = await fetch(address(index, given));
  if (!answer.ok) throw new Error(answer.status);
  return answer.json();
}
async function read(start, end, eat) {
  const headers = end === null ? {} : { Range: `bytes=0-${end - start - 1}` };
  const answer = await fetch(address(path, { offset: start }), { headers });
  if (answer.status === 416) return;
  if (!answer.ok) throw new Error(answer.status);
  const reader = answer.body.getReader();
  for (let part; !(part = await reader.read()).done;) {
    if (eat(part.value) === false) { await reader.cancel(); return; }
  }
}
async function busy(work) {
  if (loading) return;
  loading = true;
  try { await work(); } catch { say.textContent = "The log could not be loaded. Reload the page to try again."; }
  loading = false;
  draw();
}
function clear(where) {
  generation++;
  stream?.close(); stream = null;
  texts = []; offsets = []; states = []; inside = []; tops = []; sections = []; open = -1; state = 0; rows = 0;
  held = 0; base = where.line; from = until = where.offset; stale = true;
}
async function load(where, end) {
  clear(where);
  const mine = generation;
  await read(where.offset, end, (bytes) => { if (mine === generation) take(bytes); return mine === generation && texts.length < MOST; });
  if (until >= size && !running()) finish();
}
async function earlier() {
  let where = { line: 1, offset: 0 };
  if (from > PART) where = await ask({ offset: from - PART });
  if (where.offset >= from) where = await ask({ offset: 0 });
  const [texts0, offsets0, lines, parts] = [texts, offsets, [], []];
  let count = 0;
  await read(where.offset, from, (bytes) => { parts.push(bytes); count += bytes.length; });
  const all = new Uint8Array(count);
  parts.reduce((at, part) => { all.set(part, at); return at + part.length; }, 0);
  let at = 0;
  for (const line of decoder.decode(all.subarray(0, count - 1)).split("\n")) { lines.push([line, where.offset + at]); at = all.indexOf(10, at) + 1; }
  const top = base + lineAt(topRow());
  texts = lines.map(([text]) => text).concat(texts0);
  offsets = lines.map(([, offset]) => offset).concat(offsets0);
  from = where.offset; base = where.line;
  rescan();
  goTo(top, 0);
}
async function later() {
  const end = until + PART >= size ? null : until + PART;
  const most = texts.length + MOST;
  await read(until, end, (bytes) => { take(bytes); return texts.length < most; });
  if (until >= size && !running()) finish();
}

// Of what is followed for long, the beginning is let go; it can be loaded again.
function trim() {
  const cut = texts.length - KEPT;
  texts = texts.slice(cut); offsets = offsets.slice(cut);
  base += cut; from = offsets[0];
  rescan();
}

// Live: one stream while the page is looked at, from where it stopped.
const running = () => find("state")?.dataset.running === "1" && ended === false;
function connect() {
  if (document.hidden || stream || !running() || until < size || loading) return;
  until -= held; held = 0; // the last line comes again, whole
  const mine = generation, source = new EventSource(address(`${path}/stream`, { offset: until }));
  stream = source;
  const encoder = new TextEncoder();
  const here = () => mine === generation && stream === source;
  // Messages are text. Where the bytes were no text, they are asked for; the next message waits for them.
  async function hear(text, end) {
    if (!here() || end <= until) return;
    const bytes = encoder.encode(text);
    if (bytes.length === end - until) take(bytes);
    else await read(until, end, (part) => { if (here()) take(part); return here(); });
    size = Math.max(size, until);
    if (here() && follow && texts.length > MOST) trim();
  }
  function again() { if (here()) { source.close(); stream = null; setTimeout(connect, 5000); } }
  source.onmessage = (event) => {
    const { text } = JSON.parse(event.data), end = Number(event.lastEventId);
    hearing = hearing.then(() => hear(text, end)).catch(again);
  };
  source.addEventListener("end", async (event) => {
    await hearing;
    if (!here()) return;
    source.close(); stream = null; ended = true;
    finish();
    const told = JSON.parse(event.data);
    say.textContent = `It has ended: ${told.state}${told.reason ? `, ${told.reason.replaceAll("-", " ")}` : ""}.`;
    if (shows) timed();
    draw();
  });
  source.onopen = () => { if (stream === source) say.textContent = total() ? "Live." : "Nothing has been printed yet."; };
  source.onerror = () => {
    if (stream !== source) return;
    say.textContent = "Not connected: trying again.";
    if (source.readyState === EventSource.CLOSED) { stream = null; setTimeout(connect, 5000); }
  };
}
document.addEventListener("visibilitychange", () => { if (document.hidden) { stream?.close(); stream = null; } else connect(); });
addEventListener("pagehide", () => { stream?.close(); stream = null; });
addEventListener("pageshow", connect);
document.addEventListener("renewed", () => {
  if (find("state")?.dataset.running === "1" && ended && !stream && !loading && until >= size) { ended = false; connect(); } // it was tried again
});

// Times: known to the second, for what lies between two entries.
async function timed() {
  const start = times.offset.length ? times.offset[times.offset.length - 1] : 0;
  try {
    for (const [offset, at] of (await ask({ times: true, offset: start })).times) {
      if (offset > (times.offset[times.offset.length - 1] ?? -1)) { times.offset.push(offset); times.at.push(at); } else times.at[times.at.length - 1] = at;
    }
  } catch { /* asked for again with the next lines */ }
  stale = true; draw();
}
setInterval(() => { if (shows && stream && !document.hidden) timed(); }, 5000);
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }), moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
function last(list, value) { let [low, high] = [0, list.length]; while (low < high) { const half = (low + high) >> 1; if (list[half] <= value) low = half + 1; else high = half; } return low - 1; }

// Drawing.
const total = () => rows + (held ? 1 : 0);
const tall = () => Number.parseFloat(getComputedStyle(body).lineHeight) || 20;
const lineAt = (row) => last(tops, row);
function topRow() {
  const high = tall(), scaled = sizer.offsetHeight < total() * high;
  return scaled ? (body.scrollTop / Math.max(1, sizer.offsetHeight - body.clientHeight)) * Math.max(0, total() - body.clientHeight / high) : body.scrollTop / high;
}
function scrollToRow(row) {
  const high = tall(), scaled = sizer.offsetHeight < total() * high;
  body.scrollTop = scaled ? (row / Math.max(1, total() - body.clientHeight / high)) * (sizer.offsetHeight - body.clientHeight) : row * high;
}
function draw() { if (!drawing) drawing = requestAnimationFrame(() => { drawing = 0; paint(); }); }

const drawn = new Map();
function paint() {
  const high = tall(), height = Math.min(TALLEST, total() * high), visible = Math.ceil(body.clientHeight / high);
  sizer.style.height = `${height}px`;
  body.style.height = `${Math.max(4, Math.min(total(), 2000)) * high + 18}px`;
  if (follow) body.scrollTop = body.scrollHeight;
  lastTop = body.scrollTop;
  const top = topRow(), first = Math.max(0, Math.floor(top) - AROUND), end = Math.min(total(), Math.ceil(top) + visible + AROUND);
  if (stale) { for (const row of drawn.values()) row.remove(); drawn.clear(); stale = false; }
  for (const [row, node] of drawn) if (row < first || row >= end || node.unfinished) { node.remove(); drawn.delete(row); }
  let before = null;
  for (let row = end - 1; row >= first; row--) {
    let node = drawn.get(row);
    if (!node) { node = row < rows ? drawRow(row) : drawLine(-1, 0); node.unfinished = row >= rows; drawn.set(row, node); place.insertBefore(node, before); }
    before = node;
  }
  place.style.transform = `translateY(${Math.round(body.scrollTop - (top - first) * high)}px)`;
  tell();
}
function drawRow(row) { const at = lineAt(row); return drawLine(at, row - tops[at]); }
function drawLine(at, part) {
  const number = base + (at < 0 ? texts.length : at), row = make("div", "row"), line = at < 0 ? parsed(decoder.decode(rest.subarray(0, Math.min(held, CUT))), state) : shown(at);
  const link = make("a", "nr", part ? "" : String(number));
  if (!part) { link.href = `#L${number}`; link.setAttribute("aria-label", `Line ${number}`); link.tabIndex = -1; }
  row.append(link);
  row.dataset.line = number;
  if (picked && number >= picked[0] && number <= picked[1]) row.classList.add("chosen");
  if (shows) {
    const moments = at < 0 ? -1 : times.at[last(times.offset, offsets[at])];
    const told = make("span", "at", part || !(moments > 0) ? "        " : clock.format(moments));
    if (moments > 0) told.title = moment.format(moments);
    row.append(told);
  }
  const section = line.head && !part ? sections.find((each) => each.line === number) : null;
  if (sections.length) {
    const fold = make(section ? "button" : "span", "fold", section ? (section.folded ? "▸" : "▾") : "");
    if (section) { fold.type = "button"; fold.dataset.fold = number; fold.setAttribute("aria-expanded", String(!section.folded)); fold.setAttribute("aria-label", `${section.folded ? "Unfold" : "Fold"} ${line.text}`); row.classList.add("head"); }
    row.append(fold);
  }
  const begin = wraps ? part * columns : 0, end = Math.min(line.text.length, wraps ? begin + columns : LONGEST), what = make("span", "what");
  const marks = query ? matches(line.text) : [];
  if (marks.length && hit >= 0 && at >= 0 && hits[hit] === offsets[at]) row.classList.add("here");
  const borders = new Set([begin, end]);
  for (const [start] of line.runs) if (start > begin && start < end) borders.add(start);
  for (const pair of marks) for (const border of pair) if (border > begin && border < end) borders.add(border);
  const cuts = [...borders].sort((a, b) => a - b);
  for (let cut = 0; cut + 1 < cuts.length; cut++) {
    const start = cuts[cut], style = line.runs.findLast(([run]) => run <= start)[1], is = marks.some(([a, b]) => a <= start && start < b);
    const piece = line.text.slice(start, cuts[cut + 1]), kind = kinds(style);
    if (is) what.append(make("mark", "", piece)); else if (kind) what.append(make("span", kind, piece)); else what.append(piece);
  }
  if (!wraps && line.text.length > LONGEST) what.append(make("span", "cut", ` … ${(line.text.length - LONGEST).toLocaleString()} more characters: Wrap shows them`));
  if (section?.folded) what.append(make("span", "count", `  ${section.lines.toLocaleString()} lines`));
  row.append(what);
  return row;
}
function kinds(style) {
  if (!style) return "";
  const names = [];
  let [fore, back] = [style & 31, (style >> 5) & 31];
  if (style & TURNED) { if (fore || back) [fore, back] = [back || 8, fore]; if (!back) names.push("turned"); }
  if (fore) names.push(`c${fore - 1}`);
  if (back) names.push(`b${(back - 1) % 8}`);
  for (const [flag, name] of [[BOLD, "bold"], [FAINT, "faint"], [ITALIC, "italic"], [UNDER, "under"], [STRUCK, "struck"]]) if (style & flag) names.push(name);
  return names.join(" ");
}
function tell() {
  find("earlier").hidden = from === 0 || (loading && !texts.length);
  find("later").hidden = until >= size || loading;
  const bytes = (count) => `${(count / 1e6).toFixed(1)} MB`;
  find("earlier").lastElementChild.textContent = `${bytes(from)} lie before what is shown.`;
  find("later").lastElementChild.textContent = `${bytes(size - until)} lie behind what is shown.`;
  ways.follow.setAttribute("aria-pressed", String(follow)); ways.wrap.setAttribute("aria-pressed", String(wraps)); ways.times.setAttribute("aria-pressed", String(shows));
  ways.fold.hidden = !sections.length;
  if (sections.length) ways.fold.textContent = sections.some((each) => !each.folded) ? "Fold all" : "Unfold all";
  body.classList.toggle("wraps", wraps);
  if (loading && size > 1e6) say.textContent = `Loading: ${bytes(until - from)} of ${bytes(size - from)}.`;
  else if (say.textContent.startsWith("Loading")) say.textContent = "";
  if (!loading && !total() && !say.textContent) say.textContent = running() ? "Nothing has been printed yet." : "Nothing was printed.";
  else if (total() && say.textContent.startsWith("Nothing")) say.textContent = stream ? "Live." : "";
  if (query) found.textContent = hits.length ? `${hit < 0 ? "" : `${(hit + 1).toLocaleString()} of `}${hits.length.toLocaleString()}${hits.length >= MOST_FOUND ? "+" : ""}` : searching ? "searching" : "nothing found";
  else found.textContent = "";
}

// Going somewhere.
function goTo(number, above = 5) {
  const at = number - base;
  if (at < 0 || at >= texts.length) return false;
  let changed = false;
  for (let each = inside[at]; each >= 0; each = sections[each].parent) if (sections[each].folded) { sections[each].folded = false; changed = true; }
  if (changed) layAll();
  follow = false;
  paint();
  scrollToRow(Math.max(0, tops[at] - above));
  stale = true;
  paint();
  return true;
}
async function jump(given) {
  const where = await ask(given), start = where.offset > 1e6 ? await ask({ offset: where.offset - 1e6 }) : { line: 1, offset: 0 };
  size = Math.max(size, where.size);
  const end = start.offset + PART >= size ? null : start.offset + PART;
  await load(start, end);
  return where;
}
function fromHash() {
  const match = /^#L(\d{1,9})(?:-L(\d{1,9}))?$/.exec(location.hash);
  if (!match) return null;
  const ends = [Number(match[1]), Number(match[2] || match[1])];
  return [Math.min(...ends), Math.max(...ends)];
}
function pick(range, replace) {
  picked = range;
  if (replace) history.replaceState(null, "", `#L${range[0]}${range[1] > range[0] ? `-L${range[1]}` : ""}`);
  offer(location.href);
  stale = true; draw();
}
function offer(link) {
  const copy = make("button", "button quiet", "Copy link");
  copy.type = "button"; copy.dataset.copy = link;
  find("link").replaceChildren(copy);
}
async function visit() {
  const range = fromHash();
  if (!range) return;
  pick(range, false);
  if (!goTo(range[0])) await busy(async () => { await jump({ line: range[0] }); goTo(range[0]); });
  body.scrollIntoView({ block: "nearest" });
  connect();
}
addEventListener("hashchange", visit);

// Search: in what is loaded at once; where that is not the whole log, the server is asked.
function wanted(text) { return { text, any: text === text.toLowerCase() }; }
function matches(text) {
  const all = [], searched = query.any ? text.toLowerCase() : text;
  if (searched.length !== text.length) return all; // letters whose lower case is longer: the line is found, not the place
  for (let at = searched.indexOf(query.text); at >= 0 && all.length < 500; at = searched.indexOf(query.text, at + query.text.length)) all.push([at, at + query.text.length]);
  return all;
}
function seek(at) {
  if (hits.length >= MOST_FOUND || offsets[at] <= (hits[hits.length - 1] ?? -1)) return; // or it was found before
  const raw = SPECIAL.test(texts[at]) ? shown(at).text : texts[at];
  if ((query.any ? raw.toLowerCase() : raw).includes(query.text)) hits.push(offsets[at]);
}
async function search() {
  const text = word.value;
  if (query?.text === text || (!query && !text)) return;
  hits = []; hit = -1; stale = true; query = text ? wanted(text) : null;
  if (query) {
    for (let at = 0; at < texts.length; at++) seek(at);
    if (from > 0 || until < size) await searchAll();
  }
  draw();
}
async function searchAll() {
  const mine = ++searching, all = [];
  draw();
  try {
    for (let next = 0, calls = 0; next !== null && all.length < MOST_FOUND && calls < 200; calls++) {
      const answer = await fetch(address(`${path}/search`, { q: query.text, ignore_case: query.any && !(/[^\x00-\x7f]/.test(query.text) && query.text.length > 64), limit: 500, offset: next }));
      if (!answer.ok) throw new Error(answer.status);
      const part = await answer.json();
      all.push(...part.items.map((each) => each.offset));
      next = part.next;
      if (mine !== searching) return;
    }
    hits = all.slice(0, MOST_FOUND);
  } catch { /* what is loaded was searched */ }
  searching = 0;
}
async function step(by) {
  await search();
  if (!hits.length) { draw(); return; }
  if (hit < 0) {
    const here = offsets[Math.max(0, lineAt(topRow()))] ?? from, next = last(hits, here - 1) + 1;
    hit = by > 0 ? next % hits.length : (next - 1 + hits.length) % hits.length;
  } else hit = (hit + by + hits.length) % hits.length;
  const offset = hits[hit];
  if (offset < from || offset >= until) await busy(() => jump({ offset }));
  const at = last(offsets, offset);
  goTo(base + at);
  offer(`${location.href.split("#")[0]}#L${base + at}`);
  if (wraps) { const marked = query && matches(shown(at).text)[0]; if (marked) scrollToRow(Math.max(0, tops[at] + Math.floor(marked[0] / columns) - 5)); }
  const mark = place.querySelector(".row.here mark");
  if (mark && !wraps) {
    const [inner, outer] = [mark.getBoundingClientRect(), body.getBoundingClientRect()];
    if (inner.right > outer.right - 20 || inner.left < outer.left + 90) body.scrollLeft += inner.left - outer.left - outer.width / 3;
  }
  connect();
}

let due = 0;
word.addEventListener("input", () => { clearTimeout(due); due = setTimeout(search, 200); });
word.addEventListener("keydown", (event) => {
  if (event.key === "Enter") { event.preventDefault(); clearTimeout(due); step(event.shiftKey ? -1 : 1); }
  if (event.key === "Escape") { word.value = ""; search(); body.focus(); }
});
find("search").addEventListener("submit", (event) => { event.preventDefault(); step(1); });
find("search").elements.back.addEventListener("click", () => step(-1));
find("earlier").firstElementChild.addEventListener("click", () => busy(earlier));
find("later").firstElementChild.addEventListener("click", () => busy(later).then(connect));
ways.follow.addEventListener("click", async () => {
  const to = !follow;
  if (to && until < size) await busy(async () => load(await ask({ offset: size - END }), null));
  follow = to;
  connect(); draw();
});
ways.wrap.addEventListener("click", () => {
  const at = lineAt(topRow());
  wraps = !wraps; keep("wrap", wraps);
  layAll(); paint();
  if (!follow && tops[at] !== undefined) scrollToRow(tops[at]);
  stale = true; draw();
});
ways.times.addEventListener("click", () => { shows = !shows; keep("times", shows); if (shows) timed(); if (wraps) { stale = true; paint(); layAll(); } stale = true; draw(); });
ways.fold.addEventListener("click", () => { const to = sections.some((each) => !each.folded); for (const each of sections) each.folded = to; layAll(); draw(); });
place.addEventListener("click", (event) => {
  const fold = event.target.closest("[data-fold]"), link = event.target.closest("a.nr[href]");
  if (fold) {
    const section = sections.find((each) => each.line === Number(fold.dataset.fold));
    section.folded = !section.folded; follow = false;
    layAll(); paint();
    place.querySelector(`[data-fold="${section.line}"]`)?.focus();
  }
  if (!link || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const number = Number(link.closest(".row").dataset.line), first = event.shiftKey && picked ? picked[0] : number;
  pick([Math.min(first, number), Math.max(first, number)], true);
});
body.addEventListener("scroll", () => {
  const atEnd = body.scrollTop + body.clientHeight >= body.scrollHeight - 4;
  if (!atEnd && body.scrollTop < lastTop - 2) follow = false;
  else if (atEnd && stream && until >= size && body.scrollTop > lastTop) follow = true;
  draw();
}, { passive: true });
body.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") { event.preventDefault(); event.stopPropagation(); word.focus(); }
  if (event.key === "Home" || event.key === "End") { event.preventDefault(); follow = false; body.scrollTop = event.key === "Home" ? 0 : body.scrollHeight; draw(); }
  if (event.key === "l" && texts.length) { const number = base + lineAt(Math.ceil(topRow())); pick([number, number], true); }
});
new ResizeObserver(() => { if (wraps && measured() !== columns) layAll(); draw(); }).observe(body);

busy(async () => {
  size = Number(root.dataset.size);
  ended = find("state").dataset.running !== "1";
  const range = fromHash();
  follow = !ended && !range;
  if (size <= WHOLE) {
    await load({ line: 1, offset: 0 }, null);
    if (follow && until < size) await load(await ask({ offset: size - END }), null);
  }
  else if (range) await jump({ line: range[0] });
  else { await load(await ask({ offset: size - END }), null); follow = true; draw(); }
  if (shows) timed();
}).then(() => { if (wraps) { paint(); layAll(); } if (fromHash()) visit(); connect(); draw(); });
})();
