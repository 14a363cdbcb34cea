import type { RoomId } from "@hubbub/server/protocol";
import { useEffect, type ReactNode } from "react";
import { wordsOf } from "../chat/api.ts";
import { Account } from "./account/Account.tsx";
import { goTo } from "./address.ts";
import { Administration } from "./admin/Administration.tsx";
import { PickReaction } from "./conversation/PickReaction.tsx";
import { Pins } from "./conversation/Pins.tsx";
import { Viewer } from "./conversation/Viewer.tsx";
import { KeysHelp } from "./keyboard/KeysHelp.tsx";
import { Mentions } from "./mentions/Mentions.tsx";
import { RoomNotifications } from "./notifications/RoomNotifications.tsx";
import { isField } from "./keys.ts";
import { useOverlays, type Overlay as Open } from "./overlays.ts";
import { People } from "./people/People.tsx";
import { PersonCard } from "./people/PersonCard.tsx";
import { BrowseRooms } from "./rooms/BrowseRooms.tsx";
import { ReportMessage } from "./moderation/ReportMessage.tsx";
import { RoomDetails } from "./moderation/RoomDetails.tsx";
import { NewRoom } from "./rooms/NewRoom.tsx";
import { RoomOptions } from "./rooms/RoomOptions.tsx";
import { JumpToDate } from "./search/JumpToDate.tsx";
import { Search } from "./search/Search.tsx";
import { QuickSwitcher } from "./switcher/QuickSwitcher.tsx";
import { Dialog, Gone, Question } from "./ui/Dialog.tsx";
import { useNotice } from "./ui/Notices.tsx";
import { useChat, useClient } from "./useChat.ts";

type Props = {
  overlay: Open;
  /** What was typed while it was loading. */
  takeTyped: () => string;
  /** Says that something is still to come. */
  coming: ReactNode;
};

/** The open overlay. It is not part of the first load. */
export function Overlay({ overlay, takeTyped, coming }: Props) {
  const { close } = useOverlays();
  const roomId = roomOf(overlay);
  const isGone = useChat(({ rooms }) => roomId !== undefined && rooms?.has(roomId) === false);

  // The focus is now in the overlay's first field.
  const isHere = overlay.is !== "opening";
  useEffect(() => {
    const typed = isHere ? takeTyped() : "";
    if (typed !== "") document.execCommand("insertText", false, typed);
  }, [takeTyped, isHere]);

  if (isGone) return <Gone />;
  switch (overlay.is) {
    case "switch":
      return <QuickSwitcher />;
    case "search":
      return <Search />;
    case "mentions":
      return <Mentions />;
    case "date":
      return <JumpToDate roomId={overlay.roomId} date={overlay.date} />;
    case "pins":
      return <Pins roomId={overlay.roomId} />;
    case "react":
      return <PickReaction message={overlay.message} />;
    case "browse":
      return <BrowseRooms />;
    case "new room":
      return <NewRoom />;
    case "people":
      return (
        <Dialog title="People" look="drawer" onClose={close}>
          <People />
        </Dialog>
      );
    case "keys":
      return <KeysHelp />;
    case "account":
      return <Account />;
    case "administration":
      return <Administration />;
    case "person":
      return <PersonCard userId={overlay.userId} />;
    case "notifications":
      return <RoomNotifications roomId={overlay.roomId} />;
    case "room":
      return <RoomDetails roomId={overlay.roomId} managed={overlay.managed} />;
    case "room options":
      return <RoomOptions roomId={overlay.roomId} />;
    case "report":
      return <ReportMessage message={overlay.message} />;
    case "image":
      return <Viewer message={overlay.message} id={overlay.id} />;
    case "opening":
      return <Opening {...overlay} takeTyped={takeTyped} coming={coming} />;
    case "question":
      break;
  }
  return <Question {...overlay} onClose={close} />;
}

type OpeningProps = Extract<Open, { is: "opening" }> & Pick<Props, "takeTyped" | "coming">;

/**
 * Goes to a room once it is there, and says why if that fails; not if its user has given that up, or gone on to another
 * room or a field. What was typed for it meanwhile is its draft in any case.
 */
function Opening({ room, from, takeTyped, coming }: OpeningProps) {
  const chat = useClient();
  const { close } = useOverlays();
  const tell = useNotice();
  useEffect(() => {
    const given = new AbortController();
    const { signal } = given;
    let typed = "";
    async function go() {
      try {
        const roomId = await room;
        const goesOn = !signal.aborted;
        if (goesOn) typed = takeTyped();
        if (typed !== "") chat.setDraft(roomId, (chat.snapshot().drafts.get(roomId) ?? "") + typed);
        if (!goesOn) return;
        close();
        if (location.hash === from) goTo(roomId);
      } catch (error) {
        if (!signal.aborted) close();
        tell(wordsOf(error));
      }
    }
    void go();
    addEventListener("hashchange", close, { signal });
    addEventListener("pointerdown", ({ target }) => isField(target) && close(), { signal });
    return () => {
      typed = takeTyped();
      given.abort();
    };
  }, [chat, room, from, takeTyped, close, tell]);
  return coming;
}

/** The room that an overlay is about, if its user must be in it. */
function roomOf(overlay: Open): RoomId | undefined {
  if ("message" in overlay) return overlay.message.roomId;
  return "roomId" in overlay && !("managed" in overlay) ? overlay.roomId : undefined;
}
