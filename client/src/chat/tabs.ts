import type { UserId } from "@hubbub/server/protocol";
import type { World } from "./world.ts";

export type Tabs = { claim: () => void; leave: () => void };

/**
 * Leadership among a user's tabs: one at a time holds the lock, and it passes on when that tab goes. `lead` is
 * called with what this tab becomes. `claim` takes the lead away from another tab: the one a person writes in
 * should send, for the browser may have put the others to sleep. Without Web Locks (plain http beyond this
 * machine) every tab leads; equal nonces keep that harmless.
 */
export function joinTabs(userId: UserId, locks: World["locks"], lead: (leads: boolean) => void): Tabs {
  let left = false;
  let leads = false;
  let inLine = new AbortController();
  let letGo = () => {};

  function hold(steal: boolean) {
    if (locks === undefined || left) return;
    // One place in line is enough.
    inLine.abort();
    const place = (inLine = new AbortController());
    locks
      .request(`hubbub outbox ${userId}`, steal ? { steal } : { signal: place.signal }, () => {
        if (left) return undefined;
        become(true);
        return new Promise<void>((resolve) => (letGo = resolve));
      })
      .catch(() => {
        if (place !== inLine) return;
        // Stolen by another tab: stand in line for when that one goes.
        become(false);
        hold(false);
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
