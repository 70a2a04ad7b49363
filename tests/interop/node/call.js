// One call of the guard with @grpc/grpc-js: `node call.js TARGET CALL` prints how it ended, as JSON.
//
// CALL is {"method": "Moderate", "requests": [...], "timeout_ms": 1000}; what is printed is
// {"responses": [...], "code": "OK", "details": "", "trailers": {...}}.

import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const PROTOS = fileURLToPath(new URL("../../../proto", import.meta.url));

const contract = loadSync("guard_service/v1/guard.proto", {
  includeDirs: [PROTOS],
  keepCase: true,
  longs: Number,
  enums: String,
});
const { GuardService } = grpc.loadPackageDefinition(contract).guard_service.v1;

const [target, text] = process.argv.slice(2);
const { method, requests, timeout_ms } = JSON.parse(text);
const client = new GuardService(target, grpc.credentials.createInsecure());
const options = { deadline: Date.now() + timeout_ms };
const responses = [];

function end({ code, details, metadata }) {
  const trailers = metadata.getMap();
  console.log(JSON.stringify({ responses, code: grpc.status[code], details, trailers }));
  client.close();
}

if (GuardService.service[method].requestStream) {
  const call = client[method](options);
  call.on("data", (response) => responses.push(response));
  call.on("error", () => {}); // its status follows
  call.on("status", end);
  requests.forEach((request) => call.write(request));
  call.end();
} else {
  const call = client[method](requests[0], options, (error, response) => {
    if (!error) responses.push(response);
  });
  call.on("status", end);
}
