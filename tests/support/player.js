// A WHEP player, for tests: `await play(path)` gives the connection, the video and what to DELETE.
window.play = async (path) => {
  const pc = new RTCPeerConnection();
  const receiver = pc.addTransceiver('video', {direction: 'recvonly'}).receiver;
  receiver.jitterBufferTarget = 0;
  const video = document.createElement('video');
  Object.assign(video, {muted: true, autoplay: true});
  document.body.append(video);
  pc.ontrack = ({track}) => { video.srcObject = new MediaStream([track]); };
  await pc.setLocalDescription(await pc.createOffer());
  const answer = await fetch(path, {method: 'POST', headers: {'Content-Type': 'application/sdp'}, body: pc.localDescription.sdp});
  if (answer.status !== 201) throw new Error(await answer.text());
  await pc.setRemoteDescription({type: 'answer', sdp: await answer.text()});
  return {pc, video, location: answer.headers.get('Location')};
};
window.decoded = async ({pc}) => {
  for (const entry of (await pc.getStats()).values()) {
    if (entry.type === 'inbound-rtp') return {frames: entry.framesDecoded || 0, keys: entry.keyFramesDecoded || 0, lost: entry.packetsLost};
  }
  return {frames: 0, keys: 0, lost: 0};
};
