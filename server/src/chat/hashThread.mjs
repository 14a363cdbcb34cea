// A thread that computes password hashes: see hashThreads.ts. Plain JavaScript, because Node loads it as it is.

import { getPriority, setPriority } from "node:os";
import { parentPort } from "node:worker_threads";
import bcrypt from "bcrypt";

/** How far this thread stands back for the event loop. */
const NICE = 10;

// On Linux a priority is a thread's own; elsewhere it is the whole process'. Not everybody may raise one.
if (process.platform === "linux" && getPriority() < NICE) setPriority(NICE);

parentPort?.on("message", (/** @type {import("./hashThreads.ts").HashOrder} */ order) => {
  parentPort?.postMessage({ number: order.number, ...resultOf(order) });
});

/** @param {import("./hashThreads.ts").HashOrder} order */
function resultOf({ password, hash, cost }) {
  try {
    return {
      result: hash === undefined ? bcrypt.hashSync(password, cost) : bcrypt.compareSync(password, hash),
    };
  } catch (error) {
    return { fault: String(error) };
  }
}
