/** The lobby as this page knows it: its messages, what is on its way, and the socket. */

import { Problem, call } from "./api.js";

const PAGE = 50;
const FIRST_WAIT = 500;
const LONGEST_WAIT = 15_000;
/** The token has ended, or the account is disabled. */
const SIGNED_OUT = [4401, 4403];
const TOO_MANY_REFUSED = 4400;
/** What was sent was wrong, and would be wrong again: not UTF-8, broken framing, too big. */
const WRONG = [1002, 1007, 1009];

export class Lobby extends EventTarget {
  /** Messages by id; of two copies the one with the larger rev is kept. */
  #messages = new Map();
  /** What was sent and is not acked: client_id to {text, failed?}. Sent again until it is, unless
   * it has failed: with the server's words, or with the name of one of the page's texts. */
  #unacked = new Map();
  #room = null;
  #socket = null;
  #wait = FIRST_WAIT;
  #retryAfter = null;
  #closed = false;
  #me;
  /** Characters of a message, 0 for no limit. */
  #longest = 0;
  /** The seq up to which nothing is missing; 0 before the first page. */
  #complete = 0;
  #caughtUp = false;
  hasBefore = false;

  /** @param {number} me the id of the user who writes here */
  constructor(me) {
    super();
    this.#me = me;
  }

  get messages() {
    return [...this.#messages.values()].sort((a, b) => a.seq - b.seq);
  }

  get unacked() {
    return [...this.#unacked].map(([client_id, post]) => ({ client_id, ...post }));
  }

  open() {
    this.#tell("status", "connecting");
    const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/ws`, "bytechat.v1");
    this.#socket = socket;
    socket.onmessage = (event) => this.#receive(JSON.parse(event.data));
    socket.onclose = (event) => this.#reconnect(event.code);
  }

  close() {
    this.#closed = true;
    this.#socket?.close();
  }

  say(text) {
    const client_id = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
    this.#unacked.set(client_id, { text });
    this.#transmit(client_id);
    this.#tell("change");
  }

  async loadEarlier() {
    const first = this.messages[0];
    const page = await call("GET", `/rooms/lobby/messages?limit=${PAGE}&before=${first.seq}`);
    this.hasBefore = page.has_before;
    this.#keep(page.messages);
  }

  /** The socket is subscribed already, so what is said while this reads is not missed. */
  async #catchUp() {
    if (this.#complete === 0) {
      const page = await call("GET", `/rooms/lobby/messages?limit=${PAGE}`);
      this.hasBefore = page.has_before;
      this.#keep(page.messages);
    }
    for (let more = this.#complete > 0; more; ) {
      const page = await call("GET", `/rooms/lobby/messages?limit=200&after=${this.#complete}`);
      this.#keep(page.messages);
      this.#complete = page.messages.at(-1)?.seq ?? this.#complete;
      more = page.has_after;
    }
    this.#caughtUp = true;
  }

  #receive(frame) {
    if (frame.type === "hello") {
      if (frame.user.id !== this.#me) {
        // Somebody else has signed in with this browser: what was written here is not theirs.
        this.close();
        this.#tell("expired");
        return;
      }
      this.#room = frame.rooms.find((room) => room.name === "lobby").id;
      this.#longest = frame.limits.text;
      this.#wait = FIRST_WAIT;
      this.#retryAfter = null;
      this.#tell("status", "connected");
      for (const client_id of this.#unacked.keys()) this.#transmit(client_id);
      this.#catchUp()
        .then(() => this.#tell("change"))
        .catch(() => this.#socket.close());
    } else if (frame.type === "message") {
      this.#keep([frame]);
    } else if (frame.type === "ack") {
      this.#unacked.delete(frame.client_id);
      this.#tell("change");
    } else if (frame.type === "error" && this.#unacked.has(frame.client_id)) {
      this.#refused(frame);
    } else if (frame.type === "goodbye") {
      this.#retryAfter = frame.retry_after * 1000;
    }
  }

  #keep(messages) {
    for (const message of messages) {
      const known = this.#messages.get(message.id);
      if (!known || known.rev < message.rev) this.#messages.set(message.id, message);
      this.#unacked.delete(message.client_id);
    }
    this.#tell("change");
  }

  #refused({ client_id, detail, retry_after }) {
    if (retry_after) {
      setTimeout(() => this.#transmit(client_id), retry_after * 1000);
      return;
    }
    this.#unacked.get(client_id).failed = detail;
    this.#tell("change");
  }

  #transmit(client_id) {
    const post = this.#unacked.get(client_id);
    if (!post || post.failed || this.#socket?.readyState !== WebSocket.OPEN || !this.#room) return;
    // Here and not in say(): what was written before `hello` came meets its limits here.
    if (this.#longest && [...post.text].length > this.#longest) {
      post.failed = "tooLong";
      this.#tell("change");
      return;
    }
    const frame = { type: "send", room: this.#room, text: post.text, client_id };
    this.#socket.send(JSON.stringify(frame));
  }

  async #reconnect(code) {
    if (this.#closed) return;
    if (this.#caughtUp) this.#complete = this.messages.at(-1)?.seq ?? 0;
    this.#caughtUp = false;
    this.#room = null;
    if (WRONG.includes(code)) for (const post of this.#unacked.values()) post.failed ??= "tooLong";
    this.#tell("status", "lost");
    this.#tell("change");
    if (SIGNED_OUT.includes(code) || (await this.#signedOut())) {
      this.#closed = true;
      this.#tell("expired");
      return;
    }
    const jittered = this.#wait * (0.5 + Math.random() / 2);
    const wait = code === TOO_MANY_REFUSED ? 60_000 : (this.#retryAfter ?? jittered);
    this.#retryAfter = null;
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT);
    setTimeout(() => this.#closed || this.open(), wait);
  }

  /** A browser does not say why a handshake was refused, so HTTP is asked. */
  async #signedOut() {
    try {
      await call("GET", "/profile");
      return false;
    } catch (error) {
      return error instanceof Problem && error.status === 401;
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
