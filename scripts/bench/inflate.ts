import { constants, inflateRawSync } from "node:zlib";

/** What a message is cut off of as it is sent, and what ends it: RFC 7692, 7.2.1. */
const TAIL = Buffer.from([0x00, 0x00, 0xff, 0xff]);
const WINDOW_BYTES = 32_768;

/**
 * One direction of a connection with permessage-deflate. Each message is packed with what came before it in mind: the
 * last 32 KB go into each call as its dictionary, so that nothing has to wait for zlib's threads.
 */
export class Inflater {
  #before = Buffer.alloc(0);

  /** The text of a compressed frame's payload; messages are given in the order in which they came. */
  next(payload: Uint8Array): Buffer {
    const dictionary = this.#before.length > 0 ? { dictionary: this.#before } : {};
    const text = inflateRawSync(Buffer.concat([payload, TAIL]), {
      finishFlush: constants.Z_SYNC_FLUSH,
      ...dictionary,
    });
    const known = Buffer.concat([this.#before, text]);
    this.#before = known.subarray(Math.max(0, known.length - WINDOW_BYTES));
    return text;
  }
}
