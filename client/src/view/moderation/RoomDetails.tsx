import type { ManagedRoom, Room, RoomId } from "@hubbub/server/protocol";
import { useState } from "react";
import { useOverlays } from "../overlays.ts";
import { titleOf } from "../rooms/titles.ts";
import { Dialog, Gone } from "../ui/Dialog.tsx";
import { look } from "../ui/Rows.tsx";
import { Tabs } from "../ui/Tabs.tsx";
import { useChat, useMe } from "../useChat.ts";
import { AuditLog } from "./AuditLog.tsx";
import { detailsOf, type DetailedRoom } from "./detailedRoom.ts";
import { Invites } from "./Invites.tsx";
import { Members } from "./Members.tsx";
import { Reports } from "./Reports.tsx";
import { RoomSettings } from "./RoomSettings.tsx";

const TABS = ["Members", "Settings", "Invites", "Reports", "Log"] as const;
type Tab = (typeof TABS)[number];

type Props = {
  roomId: RoomId;
  /** The room as an admin found it. */
  managed?: ManagedRoom | undefined;
};

/** Who is in a room, and what its moderators can do there. Members see only the members. */
export function RoomDetails({ roomId, managed }: Props) {
  const me = useMe();
  const { close } = useOverlays();
  const mine = useChat((state) => state.rooms?.get(roomId));
  const users = useChat((state) => state.users);
  const [chosen, setChosen] = useState<Tab>("Members");
  const [other, setOther] = useState(() => managed && detailsOf(managed));
  const room = mine ?? other;
  if (room === undefined) return <Gone />;
  const tabs = TABS.slice(0, room.standing.role === "member" ? 1 : TABS.length);
  const tab = tabs.includes(chosen) ? chosen : "Members";
  const { topic = "" } = room.settings;

  return (
    <Dialog title={titleOf(room, me.id, users)} look="tall" onClose={close}>
      {topic !== "" && <p className={look.about}>{topic}</p>}
      <Tabs label="Room details" tabs={tabs} tab={tab} onTab={setChosen}>
        <Panel
          tab={tab}
          room={room}
          onChange={(now) => setOther(detailsOf({ ...now, name: now.names[0] ?? "" }))}
        />
      </Tabs>
    </Dialog>
  );
}

type PanelProps = { tab: Tab; room: DetailedRoom; onChange: (room: Room) => void };

function Panel({ tab, room, onChange }: PanelProps) {
  switch (tab) {
    case "Members":
      return <Members room={room} />;
    case "Settings":
      return <RoomSettings room={room} onChange={onChange} />;
    case "Invites":
      return <Invites roomId={room.id} />;
    case "Reports":
      return <Reports roomId={room.id} />;
    case "Log":
      return <AuditLog roomId={room.id} />;
    default:
      return tab satisfies never;
  }
}
