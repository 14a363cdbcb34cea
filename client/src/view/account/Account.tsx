import { useState } from "react";
import { useOverlays } from "../overlays.ts";
import { Dialog } from "../ui/Dialog.tsx";
import { Tabs } from "../ui/Tabs.tsx";
import { ChangePassword } from "./ChangePassword.tsx";
import { OwnData } from "./OwnData.tsx";
import { OwnName } from "./OwnName.tsx";
import { Sessions } from "./Sessions.tsx";
import { useFreshMe } from "./useFreshMe.ts";

const TABS = ["Profile", "Password", "Sessions", "Data"] as const;
type Tab = (typeof TABS)[number];

/** One's own account. */
export function Account() {
  const { close } = useOverlays();
  const [tab, setTab] = useState<Tab>("Profile");
  useFreshMe();

  return (
    <Dialog title="Your account" look="tall" onClose={close}>
      <Tabs label="Your account" tabs={TABS} tab={tab} onTab={setTab}>
        <Panel tab={tab} />
      </Tabs>
    </Dialog>
  );
}

function Panel({ tab }: { tab: Tab }) {
  switch (tab) {
    case "Profile":
      return <OwnName />;
    case "Password":
      return <ChangePassword />;
    case "Sessions":
      return <Sessions />;
    case "Data":
      return <OwnData />;
    default:
      return tab satisfies never;
  }
}
