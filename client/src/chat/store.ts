import type { Scope } from "./scope.ts";
import { apply, initialState, type ChatEvent, type ChatState } from "./state/state.ts";
import type { Clock } from "./world.ts";

/** Listeners are called at most once in this time, and for the first change at once. */
const FRAME_MS = 50;

export type Store = ReturnType<typeof createStore>;

/** The state for one sign-in: events after its end change nothing. */
export type Chat = { readonly state: ChatState; dispatch: (event: ChatEvent) => void };

/** Hears each change at once, also of a state that is over before `subscribe` tells of it. */
type OnChange = (before: ChatState, now: ChatState) => void;

/** The one state, and its listeners. */
export function createStore(clock: Clock) {
  let state = initialState;
  const listeners = new Set<() => void>();
  const onChanges = new Set<OnChange>();
  let lastTold = -Infinity;
  let cancelTelling: (() => void) | null = null;

  function dispatch(event: ChatEvent) {
    const before = state;
    state = apply(state, event);
    if (state === before) return;
    for (const hear of onChanges) hear(before, state);
    // Nothing may show the state of a session that is over.
    if (state.session !== before.session) {
      tell();
      return;
    }
    if (cancelTelling !== null) return;
    const wait = lastTold + FRAME_MS - clock.now();
    if (wait <= 0) tell();
    else cancelTelling = clock.after(wait, tell);
  }

  /** Calls the listeners at once. */
  function tell() {
    cancelTelling?.();
    cancelTelling = null;
    lastTold = clock.now();
    for (const listener of listeners) listener();
  }

  return {
    snapshot: () => state,
    subscribe: (listener: () => void): (() => void) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    onChange: (hear: OnChange): (() => void) => {
      onChanges.add(hear);
      return () => onChanges.delete(hear);
    },
    dispatch,
    tell,
    within: (scope: Scope): Chat => ({
      get state() {
        return state;
      },
      dispatch(event) {
        if (scope.open) dispatch(event);
      },
    }),
  };
}
