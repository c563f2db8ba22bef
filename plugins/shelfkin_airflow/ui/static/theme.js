// Airflow's own choice of light or dark, before anything is drawn: its pages and these share one origin.
(function () {
  "use strict";
  let theme = null;
  try {
    theme = localStorage.getItem("theme");
  } catch (error) {
    // A browser that keeps nothing: the system's choice counts.
  }
  if (theme !== "light" && theme !== "dark") {
    theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  }
  document.documentElement.dataset.theme = theme;
  addEventListener("storage", function (event) {
    if (event.key === "theme" && event.newValue) document.documentElement.dataset.theme = event.newValue;
  });
})();
