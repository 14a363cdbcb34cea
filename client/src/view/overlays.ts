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
  | ({ is: "question"; answer: (yes: boolean) => void } & Question);

/** `yes` and `no` are the labels of the buttons that act and cancel. */
export type Question = { title: string; text: string; yes: string; no: string };

type Overlays = {
  /** Replaces the open overlay. */
  open: (overlay: Overlay) => void;
  close: () => void;
  /** Asks before something that cannot be undone. A question that is closed or replaced is answered with no. */
  ask: (question: Question) => Promise<boolean>;
};

export const OverlayContext = createContext<Overlays>({
  open: () => {},
  close: () => {},
  ask: () => Promise.resolve(false),
});

export function useOverlays(): Overlays {
  return useContext(OverlayContext);
}
