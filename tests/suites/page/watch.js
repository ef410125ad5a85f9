window.seen = null;
const live = document.getElementById("live");
const began = performance.now();
if (live.querySelector("svg g.bad")) throw new Error("there is something bad already");
const observer = new MutationObserver(() => {
  if (!live.querySelector("svg g.bad")) return;
  window.seen = performance.now() - began;
  observer.disconnect();
});
observer.observe(live, { attributes: true, childList: true, subtree: true });
