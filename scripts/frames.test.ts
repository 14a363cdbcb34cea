import { describe, expect, it } from "vitest";
import { clientFrame, readFrames, type Stream } from "./frames.ts";

/** A server's text frame. */
function serverFrame(text: string): Buffer {
  const frame = clientFrame(text);
  const head = text.length < 126 ? 2 : text.length < 65_536 ? 4 : 10;
  frame[1] = (frame[1] ?? 0) & 0x7f;
  return Buffer.concat([frame.subarray(0, head), frame.subarray(head + 4)]);
}

describe("the frame reader", () => {
  const texts = ["", "short", "x".repeat(200), "y".repeat(70_000), "end"];
  const wire = Buffer.concat(texts.map(serverFrame));

  it.each([1, 2, 3, 7, 125, 4_096, wire.length])("reads frames that come in pieces of %i bytes", (size) => {
    const heard: string[] = [];
    const stream: Stream = { rest: null };
    for (let at = 0; at < wire.length; at += size) {
      const chunk = Buffer.from(wire.subarray(at, at + size));
      readFrames(stream, chunk, chunk.length, (_stream, opcode, buffer, start, end) => {
        expect(opcode).toBe(1);
        heard.push(buffer.toString("latin1", start, end));
      });
      // The buffer is everybody's: what waits for its rest must not lie in it.
      chunk.fill(0);
    }
    expect(heard).toEqual(texts);
    expect(stream.rest).toBeNull();
  });

  it("refuses a fragmented, a compressed and a masked frame", () => {
    const first = (byte: number) => {
      const frame = serverFrame("half");
      frame[0] = byte;
      return () => readFrames({ rest: null }, frame, frame.length, () => undefined);
    };
    expect(first(0x01)).toThrow("fragmented");
    expect(first(0xc1)).toThrow("compressed");
    const masked = clientFrame("masked");
    expect(() => readFrames({ rest: null }, masked, masked.length, () => undefined)).toThrow("masked");
  });
});
