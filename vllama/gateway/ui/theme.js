// Before the first paint, so that nothing flashes: light, dark, or as the system is.
(() => {
  const root = document.documentElement;
  const NAMES = { auto: "as the system", light: "light", dark: "dark" };
  let theme = "auto";
  try {
    theme = localStorage.getItem("vllama.theme") || "auto";
  } catch {
    // Storage may be forbidden: then the choice holds for this page only.
  }
  const show = () => {
    if (!(theme in NAMES)) theme = "auto";
    root.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (button) {
      button.textContent = { auto: "◐", light: "☀", dark: "☾" }[theme];
      button.setAttribute("aria-label", `Theme: ${NAMES[theme]}`);
    }
  };
  const next = () => {
    theme = { auto: "light", light: "dark", dark: "auto" }[theme];
    try {
      localStorage.setItem("vllama.theme", theme);
    } catch {
      // as above
    }
    show();
  };
  show();
  addEventListener("DOMContentLoaded", () => {
    show();
    document.getElementById("theme").addEventListener("click", next);
  });
  addEventListener("vllama:theme", next);
})();
