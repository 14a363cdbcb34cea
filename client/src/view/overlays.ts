import type { ManagedRoom, Message, RoomId, UserId } from "@hubbub/server/protocol";
import { createContext, useContext } from "react";

/** The overlays; one is open at a time. */
export type Overlay =
  | { is: "switch" }
  | { is: "search" }
  | { is: "mentions" }
  | { is: "date"; roomId: RoomId; date: number }
  | { is: "pins"; roomId: RoomId }
  | { is: "react"; message: Message }
  | { is: "browse" }
  | { is: "new room" }
  | { is: "people" }
  | { is: "keys" }
  | { is: "account" }
  | { is: "administration" }
  | { is: "person"; userId: UserId }
  | { is: "notifications"; roomId: RoomId }
  | { is: "room"; roomId: RoomId; managed?: ManagedRoom }
  | { is: "room options"; roomId: RoomId }
  | { is: "report"; message: Message }
  | { is: "image"; message: Message; id: string }
  /** A room that is being joined or made, and opens once it is there; `from`: the address at which it was chosen. */
  | { is: "opening"; room: Promise<RoomId>; from: string }
  | { is: "question"; title: string; text: string; yes: string; no: string; onYes: () => void };

type Overlays = { open: (overlay: Overlay) => void; close: () => void };

export const OverlayContext = createContext<Overlays>({ open: () => {}, close: () => {} });

/** `open` replaces the open overlay. */
export function useOverlays(): Overlays {
  return useContext(OverlayContext);
}
