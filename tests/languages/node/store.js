// The service from Node: stubs made from the contract by @grpc/proto-loader, a stock channel.
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

// Of each call; a service that hangs is a failure, not a wait.
const SECONDS = 10;
const CHUNK = 256 * 1024;

// Revisions fit a double, so `longs: Number` loses nothing.
const OPTIONS = { longs: Number, enums: String, defaults: true, oneofs: true };

// The operations on one domain. Errors are those of @grpc/grpc-js; `refusal` reads their details.
export class Store {
  constructor(protos, target, domain, options = {}) {
    const definition = protoLoader.loadSync("neardict/v1/storage.proto", { ...OPTIONS, includeDirs: [protos] });
    const { StorageService } = grpc.loadPackageDefinition(definition).neardict.v1;
    this.client = new StorageService(target, grpc.credentials.createInsecure(), options);
    this.domain = domain;
  }

  getValue(key) {
    return this.#call("getValue", { domain: this.domain, key });
  }

  setValue(key, value, more = {}) {
    return this.#call("setValue", { domain: this.domain, key, value, ...more });
  }

  deleteKey(key, more = {}) {
    return this.#call("deleteKey", { domain: this.domain, key, ...more });
  }

  // Returns the messages of the listing.
  async allKeys(request = {}) {
    const pages = [];
    const stream = this.client.allKeys({ domain: this.domain, ...request }, { deadline: soon() });
    for await (const page of stream) pages.push(page);
    return pages;
  }

  // Carries out many operations on one stream, and returns their results in the same order.
  async execute(operations) {
    const stream = this.client.execute({ deadline: soon() });
    operations.forEach((operation, number) => {
      const [[name, request]] = Object.entries(operation);
      stream.write({ operations: [{ number, [name]: { domain: this.domain, ...request } }] });
    });
    stream.end();
    const answers = [];
    for await (const { results } of stream) for (const result of results) answers[result.number] = result;
    return answers;
  }

  getServerInfo() {
    return this.#call("getServerInfo", {});
  }

  // Returns the answer of getValue for a value of any size.
  async readValue(key) {
    const stream = this.client.readValue({ domain: this.domain, key }, { deadline: soon() });
    const chunks = [];
    let head;
    for await (const part of stream) {
      if (part.part === "head") head = part.head;
      else chunks.push(part.chunk);
    }
    const data = Buffer.concat(chunks);
    if (data.length !== head.size) throw new Error(`${data.length} bytes of ${head.size}`);
    const { answer } = head;
    if (answer.found) {
      const { kind } = answer.entry.value;
      answer.entry.value = { kind, [kind]: kind === "json" ? data.toString() : data };
    }
    return answer;
  }

  // As setValue, for a value of any size.
  writeValue(key, { json, raw }, more = {}) {
    const data = raw ?? Buffer.from(json);
    const empty = raw === undefined ? { json: "" } : { raw: Buffer.alloc(0) };
    return new Promise((resolve, reject) => {
      const answered = (error, answer) => (error ? reject(error) : resolve(answer));
      const call = this.client.writeValue({ deadline: soon() }, answered);
      const request = { domain: this.domain, key, value: empty, ...more };
      call.write({ head: { request, size: data.length } });
      for (let at = 0; at < data.length; at += CHUNK) call.write({ chunk: data.subarray(at, at + CHUNK) });
      call.end();
    });
  }

  close() {
    this.client.close();
  }

  #call(name, request) {
    // A service that restarts is waited for, until the deadline.
    const metadata = new grpc.Metadata({ waitForReady: true });
    return promisify(this.client[name]).call(this.client, request, metadata, { deadline: soon() });
  }
}

function soon() {
  return Date.now() + SECONDS * 1000;
}

const rpc = protoLoader.loadSync(fileURLToPath(new URL("google_rpc.proto", import.meta.url)), OPTIONS);

// Returns the ErrorInfo of a failed call, which must have this code and reason.
export async function refusal(call, code, reason) {
  const error = await call.then(
    () => null,
    (error) => error,
  );
  if (error?.code !== grpc.status[code]) throw new Error(`${error ?? "success"} and not ${code}`);
  const [status = Buffer.alloc(0)] = error.metadata.get("grpc-status-details-bin");
  const { details } = rpc["google.rpc.Status"].deserialize(status);
  const packed = details.find((detail) => detail.type_url.endsWith("/google.rpc.ErrorInfo"));
  const info = packed && rpc["google.rpc.ErrorInfo"].deserialize(packed.value);
  if (info?.domain !== "neardict" || info.reason !== reason) {
    throw new Error(`reason ${info?.reason} of ${info?.domain} and not ${reason}`);
  }
  return info;
}
