/**
 * Loaded into a replica before anything else, with `node --expose-gc`: at SIGUSR2 it writes down what the process keeps
 * once everything that nobody needs was collected, and how many TCP connections it holds.
 */
process.on("SIGUSR2", () => {
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  const sockets = process.getActiveResourcesInfo().filter((resource) => resource === "TCPSocketWrap").length;
  console.log(JSON.stringify({ scale: { bytes: heapUsed + external, sockets } }));
});
