import type { UserId } from "@hubbub/server/protocol";
import type { World } from "./world.ts";

export type Tabs = { claim: () => void; leave: () => void };

/**
 * Elects a leader among a user's tabs: one at a time holds the lock, which passes on when that tab goes. Calls `lead`
 * with this tab's new role. `claim` takes the lead from another tab: the tab in use should send, because the browser
 * may have suspended the others. Without Web Locks (plain http beyond this machine), or where the browser refuses them, every
 * tab leads; equal nonces keep that harmless.
 */
export function joinTabs(userId: UserId, locks: World["locks"], lead: (leads: boolean) => void): Tabs {
  let left = false;
  let leads = false;
  let inLine = new AbortController();
  let letGo = () => {};

  function hold(steal: boolean) {
    if (locks === undefined || left) return;
    // One place in the queue is enough.
    inLine.abort();
    const place = (inLine = new AbortController());
    locks
      .request(`hubbub outbox ${userId}`, steal ? { steal } : { signal: place.signal }, () => {
        if (left) return undefined;
        become(true);
        return new Promise<void>((resolve) => (letGo = resolve));
      })
      .catch((error: unknown) => {
        if (place !== inLine || left) return;
        // Another tab stole the lock: queue for when that tab goes.
        const isStolen = (error as Partial<Error> | undefined)?.name === "AbortError";
        become(!isStolen);
        if (isStolen) hold(false);
      });
  }

  function become(leader: boolean) {
    if (leads === leader) return;
    leads = leader;
    lead(leader);
  }

  if (locks === undefined) become(true);
  else hold(false);

  return {
    claim() {
      if (!leads) hold(true);
    },
    leave() {
      left = true;
      inLine.abort();
      letGo();
    },
  };
}
