import type { RoomId } from "@hubbub/server/protocol";
import { useState } from "react";
import type { RoomState } from "../../chat/state/room.ts";
import { useOverlays } from "../overlays.ts";
import { titleOf } from "../rooms/titles.ts";
import { Dialog } from "../ui/Dialog.tsx";
import { look } from "../ui/Rows.tsx";
import { Tabs } from "../ui/Tabs.tsx";
import { useChat, useMe } from "../useChat.ts";
import { Invites } from "./Invites.tsx";
import { Members } from "./Members.tsx";
import { Reports } from "./Reports.tsx";
import { RoomLog } from "./RoomLog.tsx";
import { RoomSettings } from "./RoomSettings.tsx";

const TABS = ["Members", "Settings", "Invites", "Reports", "Log"] as const;
type Tab = (typeof TABS)[number];

/** Who is in a room, and what its moderators can do there. Members see only the members. */
export function RoomDetails({ roomId }: { roomId: RoomId }) {
  const me = useMe();
  const { close } = useOverlays();
  const room = useChat((state) => state.rooms?.get(roomId));
  const users = useChat((state) => state.users);
  const [chosen, setChosen] = useState<Tab>("Members");
  if (room === undefined) return null;
  const tabs = TABS.slice(0, room.standing.role === "member" ? 1 : TABS.length);
  const tab = tabs.includes(chosen) ? chosen : "Members";
  const { topic = "" } = room.settings;

  return (
    <Dialog title={titleOf(room, me.id, users)} look="tall" onClose={close}>
      {topic !== "" && <p className={look.about}>{topic}</p>}
      <Tabs label="Room details" tabs={tabs} tab={tab} onTab={setChosen}>
        <Panel tab={tab} room={room} />
      </Tabs>
    </Dialog>
  );
}

function Panel({ tab, room }: { tab: Tab; room: RoomState }) {
  switch (tab) {
    case "Members":
      return <Members room={room} />;
    case "Settings":
      return <RoomSettings room={room} />;
    case "Invites":
      return <Invites roomId={room.id} />;
    case "Reports":
      return <Reports roomId={room.id} />;
    case "Log":
      return <RoomLog roomId={room.id} />;
    default:
      return tab satisfies never;
  }
}
