package syscount

// legacyNames are calls that this architecture does not have.
var legacyNames map[int]string
