// All texts whose contrast to what is behind them is below 4.5, and texts of the picture that are
// smaller than nine pixels.
const parts = (colour) => colour.match(/[\d.]+/g).map(Number);
const isClear = (colour) => parts(colour).length === 4 && parts(colour)[3] === 0;
const light = (colour) => {
  const [red, green, blue] = parts(colour).map((part) => {
    const ratio = part / 255;
    return ratio <= 0.04045 ? ratio / 12.92 : ((ratio + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const groundOf = (element) => {
  const rect = element.closest("svg") && element.parentNode.querySelector("rect");
  if (rect) return getComputedStyle(rect).fill;
  const ground = getComputedStyle(element).backgroundColor;
  return isClear(ground) ? groundOf(element.parentElement) : ground;
};
const contrast = (one, other) => {
  const [dark, bright] = [light(one), light(other)].sort((a, b) => a - b);
  return (bright + 0.05) / (dark + 0.05);
};
const hasText = (element) => [...element.childNodes].some((it) => it.nodeType === Node.TEXT_NODE && it.data.trim());
const shown = [...document.body.querySelectorAll("*")].filter((it) => hasText(it) && it.getClientRects().length > 0);
const wrong = [];
for (const element of shown) {
  const style = getComputedStyle(element), isDrawn = element.localName === "text";
  const ratio = contrast(isDrawn ? style.fill : style.color, groundOf(element));
  if (ratio < 4.5) wrong.push([element.textContent, ratio]);
  const scale = isDrawn ? element.getScreenCTM().a : 1;
  const pixels = parseFloat(style.fontSize) * scale;
  if (pixels < 9) wrong.push([element.textContent, pixels + " px"]);
}
if (shown.length < 20) wrong.push("only " + shown.length + " texts were judged");
return wrong;
