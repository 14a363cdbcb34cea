import { useState } from "react";

/**
 * Whether to show that something could not be loaded: also while it is loaded `again`, so that the button that asked for
 * it keeps the focus.
 */
export function useFailed(load: "idle" | "loading" | "failed") {
  const [asked, setAsked] = useState(false);
  if (asked && load === "idle") setAsked(false);
  function again(loadAgain: () => Promise<unknown>) {
    setAsked(true);
    void loadAgain();
  }
  return { failed: asked || load === "failed", again };
}
