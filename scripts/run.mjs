// `node scripts/run.mjs <command> [arguments]`: what every npm script calls. It needs nothing but Node, fetches
// what is missing, and then runs scripts/<command>.ts in this very process, so that one process gets the signals.
// This file keeps to old syntax, so that an old Node can still report that it is too old.

const version = process.versions.node.split(".").map(Number);
const major = version[0] || 0;
const minor = version[1] || 0;
const supported = (major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22;

if (supported) {
  import("./prepare.mjs")
    .then((prepare) => prepare.run(process.argv[2], process.argv.slice(3)))
    .then(leave)
    .catch((error) => {
      const expected = error && typeof error.exitCode === "number";
      console.error(expected ? error.message : error);
      leave(expected ? error.exitCode : 1);
    });
} else {
  console.error(
    "Hubbub needs Node 20.19, 22.12 or newer, and this is Node " +
      process.versions.node +
      ". Take Node 24: https://nodejs.org/",
  );
  process.exitCode = 1;
}

/**
 * Ends with this code, if there is one. What is written to a pipe may still be on its way, and an exit would cut it off.
 *
 * @param {number | undefined} code
 */
function leave(code) {
  if (code === undefined) return;
  const streams = [process.stdout, process.stderr];
  let left = streams.length;
  for (const stream of streams) {
    stream.on("error", ignore).write("", () => {
      left -= 1;
      if (left === 0) process.exit(code);
    });
  }
}

/** Nobody reads any more. */
function ignore() {}
