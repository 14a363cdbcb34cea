import type { Mutation } from "../prove/mutations.ts";

/**
 * What Hubbub does for speed and has no switch for, and the edits of its sources that take it out. An edit whose text
 * is not there exactly once, as after a change of the sources, throws.
 */
export const TECHNIQUES = {
  /** A batch goes straight to the TCP socket; without it, each packet takes Socket.IO's own way. */
  "direct write": [
    {
      file: "delivery.ts",
      from: "function openTcpSocket(connection: Connection): TcpSocket | null {",
      to: "function openTcpSocket(connection: Connection): TcpSocket | null {\n  if (connection) return null;",
    },
  ],
  /** Frames are made once for all connections; without it, once for each. */
  "encoded once": [
    {
      file: "delivery.ts",
      from: "if (tcp) tcp.write(frames);",
      to: "if (tcp) tcp.write(Buffer.concat(packets.map(frame)));",
    },
  ],
  /** A busy room's messages are stored together; without it, each as it comes. */
  "stored together": [
    {
      file: "doors/socket.ts",
      from: "await this.#parts.delivery.hold(sent.roomId);",
      to: "",
    },
  ],
  /** Commands of one turn of the loop leave in one write; without it, each in its own. */
  "gathered Redis writes": [{ file: "redis.ts", from: "  else gatherWrites(client);", to: "" }],
} satisfies Record<string, Mutation["edits"]>;
export type TechniqueName = keyof typeof TECHNIQUES;
