/**
 * `connecting`: not there yet, for so long that it is told. `interrupted`: gone for so short a time that nobody needs
 * to be told.
 */
type Connection = "starting" | "connecting" | "online" | "interrupted" | "offline";

export type ConnectionState = {
  connection: Connection;
  /** How many messages were missed, once, after having been offline. */
  returned: number | null;
};

export const initialConnection: ConnectionState = { connection: "starting", returned: null };

export type ConnectionEvent =
  | { type: "connected" }
  | { type: "interrupted" }
  | { type: "offline" }
  | { type: "online"; missed: number | null }
  | { type: "return noted" };

export function applyConnection<S extends ConnectionState>(state: S, event: ConnectionEvent): S {
  switch (event.type) {
    case "connected":
      // Online is who has heard what was missed.
      return state;
    case "interrupted":
      return state.connection === "online" ? { ...state, connection: "interrupted" } : state;
    case "offline": {
      if (state.connection === "online") return state;
      const never = state.connection === "starting" || state.connection === "connecting";
      return { ...state, connection: never ? "connecting" : "offline", returned: null };
    }
    case "online":
      return { ...state, connection: "online", returned: event.missed };
    case "return noted":
      return state.returned === null ? state : { ...state, returned: null };
    default:
      return event satisfies never;
  }
}

/** Whether this client hears of changes, or can be taken to. */
export function isConnected(state: ConnectionState): boolean {
  return state.connection === "online" || state.connection === "interrupted";
}
