/** The page: the gate where one signs in, and the lobby behind it. */

import { Problem, call } from "./api.js";
import { Lobby } from "./lobby.js";
import { language, texts } from "./texts.js";

const $ = (id) => document.getElementById(id);
const time = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });

/** How far from the end one may have scrolled and still be at the end, in pixels. */
const NEAR = 80;

let lobby = null;
let me = null;

document.documentElement.lang = language;
for (const element of document.querySelectorAll("[data-text]")) {
  element.textContent = texts[element.dataset.text];
}

function showGate(error = "") {
  lobby?.close();
  lobby = null;
  $("talk").hidden = true;
  $("gate").hidden = false;
  $("gate-error").textContent = error;
  $("username").focus();
}

function showTalk(user) {
  me = user;
  $("gate").hidden = true;
  $("talk").hidden = false;
  $("me").textContent = user.username;
  $("messages").replaceChildren();
  lobby = new Lobby(user.id);
  lobby.addEventListener("change", render);
  lobby.addEventListener("expired", () => showGate(texts.expired));
  lobby.addEventListener("status", ({ detail }) => {
    $("status").textContent = texts[detail];
    $("status").classList.toggle("lost", detail === "lost");
  });
  lobby.open();
  $("text").focus();
}

function render() {
  const scroll = $("scroll");
  const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR;
  const before = scroll.scrollHeight;
  const [first, last] = [$("messages").firstChild?.id, $("messages").lastChild?.id];
  const { messages, unacked } = lobby;
  const items = [
    ...messages.map((message) => [`message-${message.id}`, message]),
    ...unacked.map((post) => [`post-${post.client_id}`, { ...post, user: me }]),
  ];
  const wanted = new Set(items.map(([id]) => id));
  for (const item of [...$("messages").children]) if (!wanted.has(item.id)) item.remove();
  items.forEach(([id, message], position) => {
    const present = $("messages").children[position];
    if (present?.id === id && present.dataset.state === stateOf(message)) return;
    $(id)?.remove();
    $("messages").insertBefore(itemFor(id, message), $("messages").children[position] ?? null);
  });
  $("earlier").hidden = !lobby.hasBefore;
  $("empty").hidden = items.length > 0;
  const authors = new Set(messages.map((message) => message.user.username).reverse());
  $("people").textContent = authors.size ? texts.talking + [...authors].join(", ") : "";
  if (atEnd) scroll.scrollTop = scroll.scrollHeight;
  else if (first !== $("messages").firstChild?.id) scroll.scrollTop += scroll.scrollHeight - before;
  else if (last !== $("messages").lastChild?.id) $("newer").hidden = false;
}

const stateOf = ({ rev, failed }) => `${rev ?? ""}${failed ?? ""}`;

/** Text goes in as text, never as HTML. */
function itemFor(id, message) {
  const item = document.createElement("li");
  item.id = id;
  item.dataset.state = stateOf(message);
  item.classList.toggle("mine", message.user.id === me.id);
  item.classList.toggle("failed", Boolean(message.failed));
  const author = document.createElement("span");
  author.className = "author";
  author.textContent = message.user.username;
  const note = document.createElement(message.created_at ? "time" : "span");
  note.className = "note";
  if (message.created_at) {
    const moment = new Date(message.created_at);
    const today = moment.toDateString() === new Date().toDateString();
    note.dateTime = message.created_at;
    note.textContent = (today ? time : day).format(moment);
  } else {
    note.textContent = texts[message.failed] ?? message.failed ?? texts.sending;
  }
  const text = document.createElement("p");
  text.className = "text";
  text.dir = "auto";
  text.textContent = message.text;
  item.append(author, note, text);
  return item;
}

$("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const credentials = { username: $("username").value, password: $("password").value };
  const buttons = event.target.querySelectorAll("button");
  for (const button of buttons) button.disabled = true;
  $("gate-error").textContent = "";
  try {
    if (event.submitter?.value === "register") await call("POST", "/register", credentials);
    // A browser is signed in once: another tab's session ends here, and is not left behind.
    if (document.cookie.includes("bytechat_csrf=")) await call("POST", "/logout").catch(() => {});
    const { user } = await call("POST", "/login", { ...credentials, session: "cookie" });
    $("password").value = "";
    showTalk(user);
  } catch (error) {
    $("gate-error").textContent = error instanceof Problem ? error.message : texts.unreachable;
  } finally {
    for (const button of buttons) button.disabled = false;
  }
});

$("sign-out").addEventListener("click", async () => {
  try {
    await call("POST", "/logout");
  } catch (error) {
    if (!(error instanceof Problem && error.status === 401)) {
      $("status").textContent = texts.unreachable;
      return;
    }
  }
  showGate();
});

$("earlier").addEventListener("click", async (event) => {
  event.target.disabled = true;
  try {
    await lobby.loadEarlier();
  } catch {
    $("status").textContent = texts.unreachable;
  } finally {
    event.target.disabled = false;
  }
});

$("scroll").addEventListener("scroll", () => {
  const scroll = $("scroll");
  if (scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR) $("newer").hidden = true;
});

$("newer").addEventListener("click", () => {
  $("scroll").scrollTop = $("scroll").scrollHeight;
});

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!$("text").value.trim()) return;
  lobby.say($("text").value);
  $("text").value = "";
  grow();
  $("scroll").scrollTop = $("scroll").scrollHeight;
});

$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("composer").requestSubmit();
  }
});

function grow() {
  $("text").rows = Math.min(6, $("text").value.split("\n").length);
}
$("text").addEventListener("input", grow);

try {
  showTalk(await call("GET", "/profile"));
} catch (error) {
  showGate(error instanceof Problem ? "" : texts.unreachable);
}
