import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { WebSocketServer } from "ws";

/**
 * A program that answers a flood without working for it. While a flood goes here, other people's delays show the
 * generator's own cost on shared cores, and not a replica's.
 */
const http = createServer((request, response) => {
  request.resume();
  request.once("end", () => response.writeHead(200, { "content-type": "application/json" }).end("{}"));
});
const sockets = new WebSocketServer({ server: http, perMessageDeflate: false, autoPong: false });
sockets.on("connection", (socket) => {
  socket.on("error", () => undefined);
  socket.send('0{"sid":"sink","upgrades":[],"pingInterval":25000,"pingTimeout":8000,"maxPayload":32768}');
  socket.on("message", (data: Buffer) => {
    const packet = data.toString("latin1", 0, 24);
    if (packet === "40") socket.send('40{"sid":"sink"}');
    const id = /^42(\d+)\[/.exec(packet)?.[1];
    if (id) socket.send(`43${id}[{"ok":true,"value":null}]`);
  });
});
http.listen(0, "127.0.0.1", () => process.send?.((http.address() as AddressInfo).port));
process.on("disconnect", () => process.exit(0));
