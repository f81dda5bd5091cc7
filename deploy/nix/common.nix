# What the two modules have in common. Needs nothing of nixpkgs but `lib`.
{ lib }:
{
  # A unit's text as the options of a NixOS service, from the very file that other systems install, so that the two cannot
  # drift apart: `Key=value` lines of one section; a key that is repeated becomes a list.
  sectionOf = section: file:
    let
      lines = builtins.filter builtins.isString (builtins.split "\n" (builtins.readFile file));
      isComment = line: builtins.match "[[:space:]]*(#.*)?" line != null;
      header = line: builtins.match "\\[([A-Za-z]+)]" line;
      pair = line: builtins.match "([A-Za-z]+)=(.*)" line;
      step = state: line:
        if isComment line then state
        else if header line != null then state // { inside = builtins.head (header line) == section; }
        else if !state.inside || pair line == null then state
        else
          let
            key = builtins.elemAt (pair line) 0;
            value = builtins.elemAt (pair line) 1;
            before = state.values.${key} or [ ];
          in
          state // { values = state.values // { ${key} = before ++ [ value ]; }; };
      found = builtins.foldl' step { inside = false; values = { }; } lines;
    in
    builtins.mapAttrs (_: values: if builtins.length values == 1 then builtins.head values else values) found.values;

  # Options of a program as its configuration file: names in camelCase, as `--help` shows them.
  settingsOption = lib: description: lib.mkOption {
    type = lib.types.attrsOf (lib.types.oneOf [ lib.types.str lib.types.int lib.types.bool ]);
    default = { };
    inherit description;
  };
}
