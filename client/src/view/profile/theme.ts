import { keepSetting, readSetting } from "../settings.ts";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

export function chosenTheme(): Theme {
  const kept = readSetting("theme");
  return THEMES.find((theme) => theme === kept) ?? "system";
}

/** Applies a choice and stores it, or applies the stored one. */
export function showTheme(theme: Theme = chosenTheme()): void {
  keepSetting("theme", theme);
  if (theme === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
}
