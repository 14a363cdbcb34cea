import type { RoomId } from "@hubbub/server/protocol";
import { useEffect } from "react";
import { Account } from "./account/Account.tsx";
import { Administration } from "./admin/Administration.tsx";
import { PickReaction } from "./conversation/PickReaction.tsx";
import { Pins } from "./conversation/Pins.tsx";
import { Viewer } from "./conversation/Viewer.tsx";
import { KeysHelp } from "./keyboard/KeysHelp.tsx";
import { Mentions } from "./mentions/Mentions.tsx";
import { RoomNotifications } from "./notifications/RoomNotifications.tsx";
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
import { closeAndAct, Dialog, Gone, Question } from "./ui/Dialog.tsx";
import { useChat } from "./useChat.ts";

type Props = {
  overlay: Open;
  /** What was typed while it was loading. */
  takeTyped: () => string;
};

/** The open overlay. It is not part of the first load. */
export function Overlay({ overlay, takeTyped }: Props) {
  const { close } = useOverlays();
  const roomId = roomOf(overlay);
  const isGone = useChat(({ rooms }) => roomId !== undefined && rooms?.has(roomId) === false);

  // The focus is now in the overlay's first field.
  useEffect(() => {
    const typed = takeTyped();
    if (typed !== "") document.execCommand("insertText", false, typed);
  }, [takeTyped]);

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
    case "question":
      break;
  }
  return (
    <Question
      title={overlay.title}
      text={overlay.text}
      yes={overlay.yes}
      no={overlay.no}
      onYes={() => closeAndAct(close, overlay.onYes)}
      onClose={close}
    />
  );
}

/** The room that an overlay is about, if its user must be in it. */
function roomOf(overlay: Open): RoomId | undefined {
  if ("message" in overlay) return overlay.message.roomId;
  return "roomId" in overlay && !("managed" in overlay) ? overlay.roomId : undefined;
}
