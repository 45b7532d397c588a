// A map that equals a domain and follows what anybody writes to it: neardict's dict, in Node.
//
// Usage: node mirror.js PROTOS TARGET DOMAIN. Takes lines `show`, `set KEY JSON` and `delete KEY`, and answers
// each with a line of JSON; `show` asks nobody.
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { Store } from "./store.js";

const PING = 1000; // milliseconds
const TRUST = 3 * PING;

export class Mirror {
  #protos;
  #target;
  #domain;
  #entries = new Map(); // key -> { revision, value }
  #revision = 0; // up to which all changes have been seen; 0 if the domain has to be listed
  #live = false; // whether every change is being sent
  #certain = true; // whether the service itself is sure of its engine
  #trustedUntil = 0;
  #pings = new Map(); // number -> when it was sent

  constructor(protos, target, domain) {
    [this.#protos, this.#target, this.#domain] = [protos, target, domain];
    this.#follow();
  }

  // Whether `get` answers with what is stored, or was 3 seconds ago at most. If not, ask the service.
  get fresh() {
    return this.#live && this.#certain && performance.now() < this.#trustedUntil;
  }

  get(key) {
    return this.#entries.get(key)?.value;
  }

  toJSON() {
    const entries = [...this.#entries].map(([key, { value }]) => [key, JSON.parse(value.json)]);
    return { fresh: this.fresh, entries: Object.fromEntries(entries) };
  }

  async #follow() {
    for (;;) {
      // A connection of its own for each stream: one that has gone silent is given up with it.
      const store = new Store(this.#protos, this.#target, this.#domain, { "grpc.use_local_subchannel_pool": 1 });
      const stream = store.client.watch();
      this.#pings.clear();
      this.#subscribe(stream);
      const pinging = setInterval(() => this.#ping(stream), PING);
      try {
        this.#ping(stream);
        for await (const message of stream) await this.#take(message, stream, store);
      } catch {
        // Whatever it was, some change was not seen: only a new stream mends that.
      }
      this.#live = false;
      this.#trustedUntil = 0;
      clearInterval(pinging);
      stream.cancel();
      store.close();
      await sleep(Math.random() * PING);
    }
  }

  #subscribe(stream) {
    stream.write({ subscribe: { domain: this.#domain, fromRevision: this.#revision } });
  }

  #ping(stream) {
    const [first] = this.#pings.values();
    if (first < performance.now() - 2 * TRUST) stream.cancel(); // nobody answers
    const number = ++Mirror.pings;
    this.#pings.set(number, performance.now());
    stream.write({ ping: { number } });
  }

  static pings = 0;

  async #take(message, stream, store) {
    const { subscribed, changes, heartbeat } = message;
    if (subscribed) {
      if (!subscribed.complete) await this.#list(store);
      this.#revision = Math.max(subscribed.revision, 1);
      this.#live = true;
    } else if (changes) {
      for (const change of changes.changes) await this.#apply(change, store);
      if (this.#revision) this.#revision = changes.revision;
    } else if (heartbeat) {
      const sent = this.#pings.get(heartbeat.ping);
      if (sent === undefined) return;
      for (const number of this.#pings.keys()) if (number <= heartbeat.ping) this.#pings.delete(number);
      this.#trustedUntil = sent + TRUST;
      this.#certain = !heartbeat.uncertainDomains.includes(this.#domain);
    } else {
      // `reset` or `rejected`: begin anew.
      this.#live = false;
      this.#revision = 0;
      if (message.rejected) await sleep(PING);
      this.#subscribe(stream);
    }
  }

  async #list(store) {
    const pages = await store.allKeys({ includeEntries: true });
    this.#entries = new Map(pages.flatMap(({ entries }) => entries.map((entry) => [entry.key, entry])));
    this.#pings.clear(); // what was asked before does not vouch for what was read just now
    this.#trustedUntil = 0;
  }

  async #apply({ key, revision, kind, value }, store) {
    if (revision <= (this.#entries.get(key)?.revision ?? 0)) return;
    let entry = kind === "KIND_SET" ? { revision, value } : null;
    if (entry && !value) ({ entry } = await store.getValue(key)); // too large to come along
    if (entry) this.#entries.set(key, entry);
    else this.#entries.delete(key);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [protos, target, domain] = process.argv.slice(2);
  const mirror = new Mirror(protos, target, domain);
  const store = new Store(protos, target, domain);
  for await (const line of createInterface({ input: process.stdin })) {
    const [act, key, ...text] = line.split(" ");
    let answer = mirror;
    if (act === "set") answer = await store.setValue(key, { json: text.join(" ") });
    if (act === "delete") answer = await store.deleteKey(key);
    console.log(JSON.stringify(answer));
  }
  process.exit(0);
}
