//! Examples of sealane; see the files beside this folder.
