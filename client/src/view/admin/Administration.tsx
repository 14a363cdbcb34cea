import { useState } from "react";
import { useFreshMe } from "../account/useFreshMe.ts";
import { AuditLog } from "../moderation/AuditLog.tsx";
import { Reports } from "../moderation/Reports.tsx";
import { useOverlays } from "../overlays.ts";
import { Dialog } from "../ui/Dialog.tsx";
import { Tabs } from "../ui/Tabs.tsx";
import { useMe } from "../useChat.ts";
import { AllRooms } from "./AllRooms.tsx";
import { Accounts } from "./Accounts.tsx";
import { Numbers } from "./Numbers.tsx";
import { ServerSettings } from "./ServerSettings.tsx";

const TABS = ["People", "Rooms", "Reports", "Log", "Settings", "Numbers"] as const;
type Tab = (typeof TABS)[number];

/** What the server's admins see and do. */
export function Administration() {
  const { close } = useOverlays();
  const { role } = useMe();
  const [tab, setTab] = useState<Tab>("People");
  useFreshMe();
  if (role === undefined)
    return (
      <Dialog title="Administration" onClose={close}>
        <p role="alert">You are no admin of this server any more.</p>
      </Dialog>
    );
  return (
    <Dialog title="Administration" look="wide" onClose={close}>
      <Tabs label="Administration" tabs={TABS} tab={tab} onTab={setTab}>
        <Panel tab={tab} />
      </Tabs>
    </Dialog>
  );
}

function Panel({ tab }: { tab: Tab }) {
  switch (tab) {
    case "People":
      return <Accounts />;
    case "Rooms":
      return <AllRooms />;
    case "Reports":
      return <Reports roomId={null} />;
    case "Log":
      return <AuditLog roomId={null} />;
    case "Settings":
      return <ServerSettings />;
    case "Numbers":
      return <Numbers />;
    default:
      return tab satisfies never;
  }
}
