// Writes and reads values that are larger than a message, on a channel with gRPC's own limits.
//
// Usage: node large.js PROTOS TARGET DOMAIN. Exits 0 if all is as it should be.
import { deepStrictEqual as same, ok } from "node:assert/strict";

import { Store, refusal } from "./store.js";

const [protos, target, domain] = process.argv.slice(2);
const store = new Store(protos, target, domain);
// Characters of 1 to 4 bytes, some of which are split between two chunks.
const text = JSON.stringify("aé€🎲".repeat(700_000));
const { revision } = await store.writeValue("text", { json: text }, { ifAbsent: true });
const { found, entry } = await store.readValue("text");
same([found, entry.revision, entry.value.kind], [true, revision, "json"]);
ok(entry.value.json === text);
await refusal(store.getValue("text"), "RESOURCE_EXHAUSTED", "VALUE_NEEDS_CHUNKS");
await refusal(store.setValue("text", { json: text }), "RESOURCE_EXHAUSTED", "VALUE_NEEDS_CHUNKS");
await refusal(store.writeValue("text", { json: "1" }, { ifAbsent: true }), "ABORTED", "CONDITION_FAILED");

const raw = Buffer.alloc(9_000_000, 7);
await store.writeValue("raw", { raw });
ok((await store.readValue("raw")).entry.value.raw.equals(raw));
await refusal(store.writeValue("raw", { raw: Buffer.alloc(9_000_001) }), "RESOURCE_EXHAUSTED", "VALUE_TOO_LARGE");
same((await store.readValue("nothing here")).found, false);

const pages = await store.allKeys({ includeEntries: true });
same(pages.flatMap(({ largeKeys }) => largeKeys).sort(), ["raw", "text"]);
store.close();
