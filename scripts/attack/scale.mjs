/**
 * Loaded into a replica before anything else, with `node --expose-gc`. At SIGUSR2 it prints what the process keeps after
 * garbage collection, and the number of its TCP connections.
 */
process.on("SIGUSR2", () => {
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  const sockets = process.getActiveResourcesInfo().filter((resource) => resource === "TCPSocketWrap").length;
  console.log(JSON.stringify({ scale: { bytes: heapUsed + external, sockets } }));
});
