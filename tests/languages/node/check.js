// Checks the service from Node, as a Node program would use it, with no code of neardict.
//
// Usage: node check.js PROTOS TARGET DOMAIN. PROTOS is the folder of the contract. Prints a line of
// JSON for each step; exits 0 if all of them hold.
import { deepStrictEqual as same, ok } from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

import { Store, refusal } from "./store.js";

const json = (text) => ({ json: text });
const raw = (bytes) => ({ raw: bytes });
const MIB = 1024 * 1024;

// In order: a step may build on what an earlier one stored.
const steps = {
  "an absent key is not found": async (store) => {
    const answer = await store.getValue("nothing here");
    same([answer.found, answer.entry], [false, null]);
  },

  "a listing of an empty domain is one message without keys": async (store) => {
    const pages = await store.allKeys({ domain: `${store.domain}.empty` });
    same(
      pages.map(({ keys, entries }) => [keys, entries]),
      [[[], []]],
    );
  },

  "a value that was set is read back with its revision": async (store) => {
    const text = '{"from":"node","text":"grüße 🎲","numbers":[1,2.5,-3e8],"yes":true}';
    const { revision } = await store.setValue("greeting", json(text));
    const { found, entry, domainRevision } = await store.getValue("greeting");
    same([found, entry.key, entry.value.kind, entry.value.json], [true, "greeting", "json", text]);
    same([entry.revision, entry.expireTime], [revision, null]);
    ok(domainRevision >= revision, `the domain is at ${domainRevision}, the write at ${revision}`);
  },

  "a revision is a number that a double holds": async (store) => {
    const first = await store.setValue("counted", json("1"));
    const second = await store.setValue("counted", json("2"));
    for (const { revision } of [first, second]) {
      ok(Number.isSafeInteger(revision) && revision > 0, `revision ${revision}`);
    }
    ok(first.revision < second.revision, `${first.revision}, then ${second.revision}`);
    same((await store.getValue("counted")).entry.revision, second.revision);
  },

  "if_absent on a present key is ABORTED with CONDITION_FAILED": async (store) => {
    const { entry } = await store.getValue("greeting");
    const write = store.setValue("greeting", json("0"), { ifAbsent: true });
    const info = await refusal(write, "ABORTED", "CONDITION_FAILED");
    same(info.metadata.current_revision, String(entry.revision));
  },

  "if_revision writes once and is stale the second time": async (store) => {
    const { revision } = await store.setValue("conditional", json("1"), { ifAbsent: true });
    await store.setValue("conditional", json("2"), { ifRevision: revision });
    const stale = store.setValue("conditional", json("3"), { ifRevision: revision });
    await refusal(stale, "ABORTED", "CONDITION_FAILED");
    same((await store.getValue("conditional")).entry.value.json, "2");
  },

  "a number beyond 2^53 in JSON is kept as written": async (store) => {
    await roundTrip(store, "big number", json('{"id":9007199254740993,"pi":3.14159265358979323846}'));
  },

  "null is a value and not an absent key": async (store) => {
    await roundTrip(store, "null", json("null"));
  },

  "raw bytes come back exactly": async (store) => {
    await roundTrip(store, "bytes", raw(Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))));
    await roundTrip(store, "no bytes", raw(Buffer.alloc(0)));
  },

  "a value of exactly the limit passes a stock channel both ways": async (store) => {
    await roundTrip(store, "largest", raw(Buffer.alloc(MIB, 0xff)));
  },

  "a value over the limit is RESOURCE_EXHAUSTED with VALUE_TOO_LARGE": async (store) => {
    const write = store.setValue("too large", raw(Buffer.alloc(MIB + 1)));
    const info = await refusal(write, "RESOURCE_EXHAUSTED", "VALUE_TOO_LARGE");
    same(info.metadata.limit, String(MIB));
    same((await store.getValue("too large")).found, false);
  },

  "an empty key is INVALID_ARGUMENT with INVALID_KEY": async (store) => {
    await refusal(store.getValue(""), "INVALID_ARGUMENT", "INVALID_KEY");
  },

  "a time to live is answered with the moment of expiry": async (store) => {
    const { expireTime } = await store.setValue("session", json("{}"), { ttl: { seconds: 3600 } });
    same((await store.getValue("session")).entry.expireTime, expireTime);
    const left = expireTime.seconds - Date.now() / 1000;
    ok(left > 3300 && left < 3660, `an hour to live became ${left} s`);
  },

  "an expired key is absent": async (store) => {
    await store.setValue("brief", json("1"), { ttl: { nanos: 20e6 } });
    const end = Date.now() + 10_000;
    while ((await store.getValue("brief")).found) {
      ok(Date.now() < end, "still there after 10 s");
      await sleep(5);
    }
  },

  "keys are listed by prefix, whatever the script": async (store) => {
    const wanted = ["ключ/", "ключ/два", "ключ/один", "ключ/🎲🎲"];
    for (const key of [...wanted, "Ключ/один", "клю", "schlüssel"]) await store.setValue(key, json("0"));
    const pages = await store.allKeys({ prefix: "ключ/" });
    same(pages.flatMap(({ keys }) => keys).sort(), wanted.sort());
  },

  "a listing holds whole entries on request": async (store) => {
    const pages = await store.allKeys({ prefix: "greeting", includeEntries: true });
    const [entry, ...others] = pages.flatMap(({ entries }) => entries);
    same([entry.key, JSON.parse(entry.value.json).from, others], ["greeting", "node", []]);
    ok(pages[0].domainRevision >= entry.revision);
  },

  "a key is deleted once, and deleting it again succeeds": async (store) => {
    same((await store.deleteKey("counted")).existed, true);
    same((await store.deleteKey("counted")).existed, false);
    same((await store.getValue("counted")).found, false);
  },

  "a delete with a stale revision is ABORTED": async (store) => {
    await refusal(store.deleteKey("greeting", { ifRevision: 1 }), "ABORTED", "CONDITION_FAILED");
  },

  "operations of one stream get a result each, in order on their domain": async (store) => {
    const operations = [];
    for (let count = 0; count < 1000; count++) {
      operations.push({ setValue: { key: "executed", value: json(`${count}`) } }, { getValue: { key: "executed" } });
    }
    operations.push({ getValue: { key: "" } }, { deleteKey: { key: "executed" } });
    const results = await store.execute(operations);
    for (let count = 0; count < 1000; count++) {
      const [{ setValue: written }, { getValue: read }] = results.slice(2 * count, 2 * count + 2);
      same([read.entry.value.json, read.entry.revision], [`${count}`, written.revision]);
    }
    const [{ error }, { deleteKey: deleted }] = results.slice(-2);
    same([error.code, error.reason, error.metadata.field], [3, "INVALID_KEY", "key"]);
    same(deleted.existed, true);
  },

  "the service tells its limits and backends": async (store) => {
    const info = await store.getServerInfo();
    ok(info.version, "no version");
    same(info.limits.maxValueBytes, MIB);
    ok(info.backends.length > 0, "no backends");
  },
};

// Writes the value and compares what is read.
async function roundTrip(store, key, value) {
  await store.setValue(key, value);
  const { entry } = await store.getValue(key);
  const [kind] = Object.keys(value);
  same(entry.value.kind, kind);
  ok(kind === "json" ? value.json === entry.value.json : value.raw.equals(entry.value.raw), `${key} differs`);
}

const [protos, target, domain] = process.argv.slice(2);
if (domain === undefined) {
  console.error("usage: node check.js PROTOS TARGET DOMAIN");
  process.exit(2);
}
const store = new Store(protos, target, domain);
for (const [step, check] of Object.entries(steps)) {
  try {
    await check(store);
    console.log(JSON.stringify({ step, ok: true }));
  } catch (error) {
    process.exitCode = 1;
    console.log(JSON.stringify({ step, ok: false, problem: error.message }));
  }
}
store.close();
