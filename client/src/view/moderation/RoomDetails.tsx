import type { RoomId } from "@hubbub/server/protocol";
import { useId, useRef, useState, type KeyboardEvent } from "react";
import type { RoomState } from "../../chat/state/room.ts";
import { useOverlays } from "../overlays.ts";
import { titleOf } from "../rooms/titles.ts";
import { Dialog } from "../ui/Dialog.tsx";
import { useChat, useMe } from "../useChat.ts";
import { Invites } from "./Invites.tsx";
import { Members } from "./Members.tsx";
import { Reports } from "./Reports.tsx";
import css from "./RoomDetails.module.css";
import { RoomLog } from "./RoomLog.tsx";
import { RoomSettings } from "./RoomSettings.tsx";

const TABS = ["Members", "Settings", "Invites", "Reports", "Log"] as const;
type Tab = (typeof TABS)[number];

/** Who is in a room, and what its moderators can do there. Members see only the members. */
export function RoomDetails({ roomId }: { roomId: RoomId }) {
  const me = useMe();
  const { close } = useOverlays();
  const room = useChat((state) => state.rooms?.get(roomId));
  const [chosen, setChosen] = useState<Tab>("Members");
  const id = useId();
  const list = useRef<HTMLDivElement>(null);
  if (room === undefined) return null;
  const tabs = TABS.slice(0, room.standing.role === "member" ? 1 : TABS.length);
  const tab = tabs.includes(chosen) ? chosen : "Members";
  const { topic = "" } = room.settings;

  function onKeyDown(event: KeyboardEvent) {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    const at = tabs.indexOf(tab);
    const next = tabs[(at + step + tabs.length) % tabs.length];
    if (step === 0 || next === undefined) return;
    event.preventDefault();
    setChosen(next);
    list.current?.querySelectorAll<HTMLElement>("[role=tab]")[tabs.indexOf(next)]?.focus();
  }

  return (
    <Dialog title={titleOf(room, me.id)} look="tall" onClose={close}>
      {topic !== "" && <p className={css.about}>{topic}</p>}
      {tabs.length > 1 && (
        // oxlint-disable-next-line jsx-a11y/interactive-supports-focus -- its tabs have the focus
        <div ref={list} className={css.tabs} role="tablist" aria-label="Room details" onKeyDown={onKeyDown}>
          {tabs.map((one) => (
            <button
              key={one}
              type="button"
              role="tab"
              id={`${id}-${one}`}
              aria-selected={one === tab}
              aria-controls={`${id}-panel`}
              tabIndex={one === tab ? 0 : -1}
              onClick={() => setChosen(one)}
              {...(one === tab && { "data-first": true })}
            >
              {one}
            </button>
          ))}
        </div>
      )}
      {/* oxlint-disable jsx-a11y/no-noninteractive-tabindex -- what scrolls must be scrollable with the keys */}
      <div
        className={css.panel}
        id={`${id}-panel`}
        tabIndex={0}
        {...(tabs.length > 1
          ? { role: "tabpanel", "aria-labelledby": `${id}-${tab}` }
          : { role: "region", "aria-label": "Members" })}
      >
        <Panel tab={tab} room={room} />
      </div>
      {/* oxlint-enable jsx-a11y/no-noninteractive-tabindex */}
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
