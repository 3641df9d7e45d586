// What pages do beyond being read: stay up to date, tell times in the reader's zone, take keys. They work without it.
"use strict";

const zone = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const ofThisYear = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
const ofAnotherYear = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
const short = { format: (at) => (at.getFullYear() === new Date().getFullYear() ? ofThisYear : ofAnotherYear).format(at) };
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const SPANS = [[60, "second", 1], [3600, "minute", 60], [86400, "hour", 3600], [30 * 86400, "day", 86400]];

function tellTimes(root) {
  for (const place of root.querySelectorAll("time[datetime]")) {
    const at = new Date(place.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const seconds = (at - Date.now()) / 1000;
    const span = SPANS.find(([below]) => Math.abs(seconds) < below);
    const text = place.dataset.form === "short" || !span ? short.format(at)
      : relative.format(Math.trunc(seconds / span[2]), span[1]);
    if (place.textContent !== text) place.textContent = text;
    place.title = `${zone.format(at)} (${place.dateTime})`;
  }
}

function same(old, fresh) {
  return old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName && old.id === fresh.id;
}

// Does somebody write in there just now?
function written(node) {
  const at = document.activeElement;
  return node.contains(at) && at.matches("input, textarea, select");
}

// Makes `old` equal to `fresh` in place, so that focus, selection, open details and typed text stay.
function become(old, fresh) {
  if (!same(old, fresh)) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.hasAttribute("data-keep")) return;
  if (old.nodeName === "TIME" && old.dateTime === fresh.dateTime) return;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && name !== "open") old.setAttribute(name, value);
  }
  if (old.matches("input, textarea, select")) return;
  becomeInside(old, fresh);
}

// What has an id is the same thing wherever it stands; all else is by its place.
function becomeInside(old, fresh) {
  const wanted = new Set([...fresh.children].map((node) => node.id).filter(Boolean));
  const known = new Map([...old.children].filter((node) => node.id).map((node) => [node.id, node]));
  let at = old.firstChild;
  for (const node of [...fresh.childNodes]) {
    const mine = node.id ? known.get(node.id) : null;
    if (mine) {
      while (at && at !== mine && !wanted.has(at.id) && !written(at)) {  // what is moved loses the focus
        const next = at.nextSibling;
        at.remove();
        at = next;
      }
      if (mine === at) at = at.nextSibling;
      else old.insertBefore(mine, at);
      become(mine, node);
    } else if (at && !wanted.has(at.id) && (same(at, node) || !written(at))) {
      const next = at.nextSibling;
      become(at, node);
      at = next;
    } else {
      old.insertBefore(node, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    if (!written(at)) at.remove();
    at = next;
  }
}

async function renew() {
  const answer = await fetch(location.href, { headers: { "X-Renew": "1" }, redirect: "error" });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const place of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(place.id);
    if (fresh) become(place, document.adoptNode(fresh));
  }
  tellTimes(document);
  document.dispatchEvent(new Event("renewed"));
}

// One stream says that something has changed; the page then asks for itself again, at most once a second, and the more
// seldom the longer that takes: however much happens, a page that is looked at costs the server a tenth of a core.
function follow() {
  if (!document.querySelector("[data-live]")) return;
  const stale = document.getElementById("stale");
  let due = false, busy = false;
  async function act() {
    if (busy) return;
    busy = true;
    while (due && !document.hidden) {
      due = false;
      const begun = performance.now();
      try { await renew(); } catch { /* the stream tells when the server is back */ }
      const pause = Math.max(1000, 10 * (performance.now() - begun));
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
    busy = false;
  }
  let known = document.body.dataset.version;
  function hear(told) {
    stale.hidden = told !== null;
    if (told === null || told === known) return;
    known = told;
    due = true;
    act();
  }
  document.addEventListener("visibilitychange", act);
  listen(hear);
}

// A browser has few connections to a server. Where it lets pages agree (over https, and on this machine), one of them
// listens for all; else only the one that is looked at does.
function listen(hear) {
  const pages = "BroadcastChannel" in self ? new BroadcastChannel("steersman") : null;
  let news = null, last;
  const told = (version) => { last = version; hear(version); pages?.postMessage(version); };
  function open() {
    if (news) return;
    news = new EventSource("/ui/live");
    news.addEventListener("version", (event) => told(event.data));
    news.addEventListener("error", () => told(null));
  }
  function close() { news?.close(); news = null; }
  if (pages && navigator.locks) {
    // a page that is new asks what the version is
    pages.addEventListener("message", ({ data }) => {
      if (data !== "?") hear(data);
      else if (news && last !== undefined) pages.postMessage(last);
    });
    pages.postMessage("?");
    const left = new AbortController();
    addEventListener("pagehide", () => left.abort());
    const hold = () => {
      open();
      return new Promise((resolve) => left.signal.addEventListener("abort", resolve));
    };
    navigator.locks.request("steersman", { signal: left.signal }, hold).catch(() => { /* the page is left */ });
    addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  } else {
    const look = () => (document.hidden ? close() : open());
    look();
    document.addEventListener("visibilitychange", look);
    addEventListener("pageshow", look);
  }
  addEventListener("pagehide", close);
}

const GOES = { o: "/", p: "/ui/projects", j: "/ui/jobs", i: "/ui/pipelines", r: "/ui/resources", l: "/ui/releases", a: "/ui/approvals", c: "/ui/calendar", h: "/ui/changes", x: "/ui/executors", e: "/ui/events", d: "/ui/docs", t: "/ui/tokens" };
let before = "";

function rows() { return [...document.querySelectorAll("tbody tr a:first-of-type, ul.rows > li a:first-of-type")].filter((link, place, all) => all.findIndex((each) => each.closest("tr, li") === link.closest("tr, li")) === place); }

function step(by) {
  const all = rows(), at = all.indexOf(document.activeElement);
  (all[at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by] || document.activeElement).focus();
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
  const key = event.key;
  if (before === "g" && GOES[key]) location.href = GOES[key];
  else if (key === "/") { event.preventDefault(); document.querySelector(".search input")?.focus(); }
  else if (key === "?") document.getElementById("keys")?.showModal();
  else if (key === "j") step(1);
  else if (key === "k") step(-1);
  before = key;
});

document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.ask;
  if (question && !confirm(question)) event.preventDefault();
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) navigator.clipboard?.writeText(button.dataset.copy).then(() => { button.textContent = "Copied"; });
});
document.addEventListener("change", (event) => {
  if (event.target.matches("select[data-send]")) event.target.form.requestSubmit();
});
tellTimes(document);
setInterval(() => tellTimes(document), 15000);
follow();
