# Runs a group's cases and tells what came of each: its output, its status, and the files it left. The same on Linux, which is the oracle, and on Sloth.
# Programs of the group go before busybox's. BIN: the programs; CASES: the cases and their list; WORK: an empty folder; INTERPRETER: what runs a case.
umask 022
mkdir -p "$WORK/applets" && "$BIN/busybox" --install -s "$WORK/applets"
export PATH="$BIN:$WORK/applets"
tree() {
    find . ! -type d | sort | while IFS= read -r file; do
        if [ -L "$file" ]; then
            echo "link $file -> $(readlink "$file")"
        else
            stat -c '%A %h %s %n' "$file"
            sha256sum < "$file"
        fi
    done
    find . -type d | sort | while IFS= read -r folder; do stat -c '%A %n' "$folder"; done
}
# A pipe's reader writes it all: so no program sees a terminal here and none there. Cases are named alike everywhere: messages tell the name.
while read -r name; do
    cp "$CASES/$name" "$WORK/script"
    mkdir "$WORK/case" && cd "$WORK/case" || exit 1
    echo
    echo "=== case $name"
    $INTERPRETER ../script < /dev/null 2>&1
    echo "=== status $?"
    tree
    cd "$WORK" && rm -rf case
done < "$CASES/list" | cat
echo
echo "=== end"
