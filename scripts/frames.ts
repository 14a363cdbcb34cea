/** A client's side of WebSocket frames, for programs with thousands of connections. */

/** What is left of a stream between two reads. */
export type Stream = { rest: Buffer | null };

export type FrameHandler<S extends Stream> = (
  stream: S,
  opcode: number,
  buffer: Buffer,
  start: number,
  end: number,
) => void;

/**
 * Calls `handle` with the position of each whole payload; keeps an incomplete frame in the stream until its rest comes.
 * `chunk` may be reused after the call. Throws on a fragmented, masked or compressed frame: no server here sends one.
 */
export function readFrames<S extends Stream>(
  stream: S,
  chunk: Buffer,
  length: number,
  handle: FrameHandler<S>,
): void {
  let buffer = chunk;
  let size = length;
  if (stream.rest) {
    buffer = Buffer.concat([stream.rest, chunk.subarray(0, length)]);
    size = buffer.length;
    stream.rest = null;
  }
  let at = 0;
  while (at + 2 <= size) {
    const first = buffer[at] ?? 0;
    let payload = buffer[at + 1] ?? 0;
    let start = at + 2;
    if (payload === 126) {
      if (start + 2 > size) break;
      payload = buffer.readUInt16BE(start);
      start += 2;
    } else if (payload === 127) {
      if (start + 8 > size) break;
      payload = Number(buffer.readBigUInt64BE(start));
      start += 8;
    } else if (payload > 127) throw new Error("a server sent a masked frame");
    const end = start + payload;
    if (end > size) break;
    if ((first & 0x80) === 0) throw new Error("a server sent a fragmented message");
    if ((first & 0x40) !== 0) throw new Error("a server sent a compressed message");
    handle(stream, first & 0x0f, buffer, start, end);
    at = end;
  }
  if (at < size) stream.rest = Buffer.from(buffer.subarray(at, size));
}

/** A client's frame. Its mask is zero, which the protocol allows, so that the payload needs no masking. */
export function clientFrame(payload: string | Buffer, opcode = 1): Buffer {
  const size = Buffer.byteLength(payload);
  const start = size < 126 ? 6 : size < 65_536 ? 8 : 14;
  const frame = Buffer.alloc(start + size);
  frame[0] = 0x80 | opcode;
  if (size < 126) frame[1] = 0x80 | size;
  else if (size < 65_536) {
    frame[1] = 0x80 | 126;
    frame.writeUInt16BE(size, 2);
  } else {
    frame[1] = 0x80 | 127;
    frame.writeBigUInt64BE(BigInt(size), 2);
  }
  if (typeof payload === "string") frame.write(payload, start);
  else payload.copy(frame, start);
  return frame;
}
