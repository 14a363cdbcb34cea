/**
 * `connecting`: not connected yet, long enough to be shown. `interrupted`: lost for too short a time to be shown.
 */
type Connection = "starting" | "connecting" | "online" | "interrupted" | "offline";

export type ConnectionState = {
  connection: Connection;
  /** How many messages were missed while offline; told once. */
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
      // The client is online only once it has caught up.
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

/** Whether this client hears changes, or can be assumed to. */
export function isConnected(state: ConnectionState): boolean {
  return state.connection === "online" || state.connection === "interrupted";
}
