# Runs a group's cases and prints the output, the exit status and the files of each. The same script
# runs on Linux, which is the oracle, and on Sloth. The group's programs precede busybox's in PATH.
# BIN: the programs; CASES: the cases and their list; WORK: an empty folder; INTERPRETER: the
# command that runs a case.
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
# The output passes through a pipe, so that no program has a terminal on either system. The case is
# always called `script`, since messages contain its name.
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
