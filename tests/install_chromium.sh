#!/bin/sh
# Makes sure that there is a Chromium for the browser tests: the system's, else Debian's, else
# Playwright's own. $1 is the playwright command.
set -u
for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null 2>&1 && exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing Chromium ..."
    if apt-get update -qq >/dev/null 2>&1 &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null 2>&1; then
        exit 0
    fi
fi
"$1" install chromium >/dev/null 2>&1 && exit 0
echo "There is no Chromium and none could be installed: the browser tests will say so." >&2
